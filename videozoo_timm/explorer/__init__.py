"""The models in the hand, in a browser: `videozoo explore`.

The views (`views`, `moments`) are functions of the analyses and know no page; the page (`page`) is Gradio's.
"""
