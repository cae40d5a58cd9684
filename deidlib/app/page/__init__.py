"""What is on the page; the only place that knows Gradio, which is an extra."""
