"""The command line: names become objects, and what happens is printed. The only place that prints."""

from deidlib.cli.app import app as app
from deidlib.cli.app import main as main
