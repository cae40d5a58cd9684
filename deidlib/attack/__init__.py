"""The attack: perturb hidden faces until authorised models read from them what they read on the original."""
