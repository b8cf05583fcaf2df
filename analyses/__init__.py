"""The study of the paper: recordings in, results and verdicts out."""
