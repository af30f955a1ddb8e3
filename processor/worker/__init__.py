"""The consumer group's member: reads, checks, counts, and writes in one transaction with the offsets."""
