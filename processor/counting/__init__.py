"""Pure arithmetic: calls become deltas of totals.

How things are counted: a call is one (project_id, id); an hour is `ended_at` truncated to the hour in UTC; every total
is kept by `call_kind`, because the SDK adds the usage of a call's children to its parent (a plain sum would count a
leaf once per ancestor). Aliases are never merged, `total_tokens` is summed as given, an absent count is 0.
"""
