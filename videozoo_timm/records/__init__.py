"""What was done: the record of a run beside its results, what has changed since, and what a paper says of it.

Nothing here computes results. The command line keeps the records (`cli/recording.py`), as it knows the words.
"""
