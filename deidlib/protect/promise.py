"""``why_not_proved``: whether a protected file is a function of readings and of what lies around faces alone."""

from __future__ import annotations

from deidlib.obfuscate import takes_from_face
from deidlib.protect.deidentifier import Deidentifier


def why_not_proved(deidentifier: Deidentifier) -> str | None:
    """Why other pixels in the hidden region could give another file; None if they cannot, the readings being equal.

    What is hidden is a function of the readings; targets are built from readings alone; and an attack sees the hidden
    frame. So the pixels of a face reach the file through the way of hiding only, or in a frame that is left as it is.

    Args:
        deidentifier: what happens to frames.

    Example:
        >>> from deidlib import MTCNN, IFGSMAttacker, Pixelate
        >>> attacker = IFGSMAttacker([MTCNN()])
        >>> print(why_not_proved(Deidentifier(attacker)))
        None
        >>> why_not_proved(Deidentifier(attacker, Pixelate()))
        'Pixelate takes what it shows from the face; over a clip that adds up'
    """
    if takes_from_face(deidentifier.obfuscator):
        return f"{type(deidentifier.obfuscator).__name__} takes what it shows from the face; over a clip that adds up"
    if deidentifier.tracker.on_missing == "keep":
        return "frames in which no face was found are left as they are (on_missing='keep')"
    return None
