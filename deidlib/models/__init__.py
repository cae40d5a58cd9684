"""Authorised models: one file per wrapper."""
