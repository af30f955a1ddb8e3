"""LLM calls as the Weave SDK posts them, and an independent oracle for what must be stored in the end.

For the demo, the tests and the bench. Nothing here uses the code that it checks: no counting, codec or sink.
"""
