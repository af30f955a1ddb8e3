"""Counting does not depend on order, nor on where batches begin and end."""

from hypothesis import given
from hypothesis import strategies as st

from processor.calls import USAGE_FIELDS
from processor.counting.rows import CountedCall, content_hash, fold
from processor.counting.totals import Totals
from tests.property.cases import LAW

counts = st.integers(-(10**12), 10**12)
models = st.dictionaries(st.sampled_from(["gpt-4o", "", "ž"]), st.tuples(*[counts] * len(USAGE_FIELDS)), max_size=3)
calls = st.builds(
    CountedCall,
    project_id=st.sampled_from(["a/b", "a/c"]),
    id=st.text(min_size=1, max_size=3),
    ended_at_us=st.integers(-(10**10), 10**10),
    failed=st.booleans(),
    usage=models.map(lambda m: tuple(m.items())),
    status_counts=st.dictionaries(st.sampled_from(["success", "error", "x"]), st.integers(-2, 3)).map(
        lambda s: tuple(s.items())
    ),
)


@LAW
@given(st.lists(calls, max_size=12), st.integers(0, 12), st.randoms(use_true_random=False))
def test_a_batch_counts_the_same_however_it_is_shuffled_or_split_and_nothing_is_lost_in_the_fold(
    batch: list[CountedCall], at: int, random: object
) -> None:
    """Three laws of one batch, as to draw it takes longer than to try all of them."""
    totals = fold(batch)
    shuffled = list(batch)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert fold(shuffled) == totals

    merged = Totals()
    for part in (batch[:at], batch[at:]):
        merged.add(fold(part))
    assert merged == totals

    assert sum(totals.outcomes.values()) == len(batch)
    assert sum(usage[0] for usage in totals.usage.values()) == sum(len(call.usage) for call in batch)
    for field in range(len(USAGE_FIELDS)):
        posted = sum(numbers[field] for call in batch for _, numbers in call.usage)
        assert sum(usage[field + 1] for usage in totals.usage.values()) == posted


@LAW
@given(calls, calls)
def test_two_calls_have_one_content_hash_exactly_if_they_count_the_same(one: CountedCall, other: CountedCall) -> None:
    placed = CountedCall(one.project_id, one.id, other.ended_at_us, other.failed, other.usage, other.status_counts)
    same = fold([one]) == fold([placed])
    assert (content_hash(one) == content_hash(placed)) == same


@LAW
@given(calls)
def test_the_content_hash_does_not_depend_on_the_order_of_entries(call: CountedCall) -> None:
    turned = CountedCall(
        call.project_id, call.id, call.ended_at_us, call.failed, call.usage[::-1], call.status_counts[::-1]
    )
    assert content_hash(turned) == content_hash(call)
