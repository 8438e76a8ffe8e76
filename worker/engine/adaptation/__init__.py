"""What a job that adapts to a new domain adds: choosing and judging without labels, and the contest of its arms."""
