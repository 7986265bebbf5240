"""What the program costs, each figure beside a baseline of the same run; see README.md."""
