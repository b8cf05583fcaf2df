"""The figures of the study: results in, pictures out."""
