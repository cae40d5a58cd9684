"""An evaluation as a page that can be read: one HTML file that needs nothing else."""

from deidlib.evaluation.report.page import write_report as write_report
