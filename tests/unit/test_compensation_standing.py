"""A command's moves: what each happening makes of it, and that the order of the owner's words cannot matter."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.publisher import PublishResult
from compensation import delivery, reasons
from compensation.errors import MAXIMUM_ERROR_CHARACTERS
from compensation.models import AttemptOutcome, CommandStatus, ConfirmationKind, ExhaustedBy
from compensation.retry import RetryPolicy
from compensation.snapshot import CommandSnapshot, SettlementStatus, ended_as
from compensation.statements import Claim

NOW = datetime(2026, 3, 8, 14, 0, tzinfo=UTC)
POLICY = RetryPolicy(maximum_attempts=3, jitter=0, non_retryable_errors=("no such image",))
PLANNED = CommandSnapshot(
    id="1b4e28ba-2fa1-11d2-883f-0016d3cca427",
    stream="image_processing",
    key="task",
    routing_key="image_processing:task",
    entity="image",
    name="DeleteRetrievedImage",
    service="DATA_RETRIEVAL",
    confirmation=ConfirmationKind.EVENT,
    invalid="",
    policy=POLICY,
    confirmation_timeout=300,
)
DUE = PLANNED.released(NOW)


def claimed(standing: CommandSnapshot) -> CommandSnapshot:
    """What rows.claim does to a row."""
    return replace(
        standing, status=CommandStatus.PUBLISHING, attempt=standing.attempt + 1, claimed_at=NOW, next_at=None
    )


def seconds(count: float) -> datetime:
    return NOW + timedelta(seconds=count)


def failed(
    standing: CommandSnapshot, outcome: AttemptOutcome = AttemptOutcome.REFUSED, error: str = "busy"
) -> CommandSnapshot:
    return standing.failed(outcome, error, NOW, random=0)


def text(snapshot: CommandSnapshot) -> str:
    """Its last error as people read it."""
    return reasons.text(snapshot.last_error, snapshot.last_error_data)


def test_sent_waits_for_its_confirmation_until_the_deadline() -> None:
    sent = claimed(DUE).sent(NOW)
    assert (sent.status, sent.published_at, sent.deadline_at) == (CommandStatus.PUBLISHED, NOW, seconds(300))


def test_sent_is_enough_where_the_definition_says_so_and_has_no_deadline() -> None:
    sent = claimed(replace(DUE, confirmation=ConfirmationKind.PUBLISHED)).sent(NOW)
    assert (sent.status, sent.deadline_at) == (CommandStatus.PUBLISHED, None)


def test_a_service_that_does_not_answer_is_a_persons_business_once_sent() -> None:
    sent = claimed(replace(DUE, confirmation=ConfirmationKind.MANUAL)).sent(NOW)
    assert (sent.status, sent.exhausted_by) == (CommandStatus.EXHAUSTED, ExhaustedBy.MANUAL)
    assert text(sent).startswith("This service sends no confirmation.")
    assert (sent.published_at, sent.settled_at) == (NOW, NOW)


def test_a_command_without_an_answer_waits_by_its_policy() -> None:
    late = failed(claimed(DUE).sent(NOW), AttemptOutcome.DEADLINE, "")
    assert (late.status, late.next_at, late.deadline_at) == (CommandStatus.WAITING, seconds(1), None)
    again = failed(claimed(late).sent(NOW), AttemptOutcome.DEADLINE, "")
    assert again.next_at == seconds(2)


def test_while_it_is_refused_nothing_is_sent_and_each_refusal_is_an_attempt() -> None:
    first = claimed(DUE).sent(NOW).refused("busy", seconds(1), seconds(2), has_open_attempt=True)
    assert (first.status, first.attempt, first.next_at) == (CommandStatus.PUBLISHED, 1, None)
    assert (first.published_at, first.deadline_at) == (NOW, seconds(302))
    assert text(first) == "The service refused it: busy"
    second = first.refused("busy", seconds(61), seconds(62), has_open_attempt=False)
    assert (second.attempt, second.deadline_at) == (2, seconds(362))
    waiting = failed(second, AttemptOutcome.DEADLINE, "")
    assert (waiting.status, waiting.attempt) == (CommandStatus.WAITING, 2), "a deadline of no attempt is none"
    third = second.refused("busy", seconds(121), seconds(122), has_open_attempt=False)
    assert (third.status, third.exhausted_by, third.attempt) == (CommandStatus.EXHAUSTED, ExhaustedBy.ATTEMPTS, 3)
    assert third.refused("busy", seconds(181), seconds(182), has_open_attempt=False) is third


def test_a_refusal_of_a_command_of_which_no_copy_left_changes_nothing() -> None:
    retried = claimed(DUE).sent(NOW).settle("retried", NOW, round=2)
    for never_sent in (PLANNED, DUE, retried):
        assert never_sent.refused("busy", NOW, NOW, has_open_attempt=False) is never_sent


@pytest.mark.parametrize(
    ("outcome", "error", "words"),
    [
        (AttemptOutcome.REFUSED, "busy", "The service refused it: busy"),
        (AttemptOutcome.DEADLINE, "", "No answer within 300 seconds."),
        (
            AttemptOutcome.FAILED,
            "pulsar:MessageTooBig",
            "The command could not be sent: Pulsar could not carry out the request: MessageTooBig",
        ),
        (AttemptOutcome.FAILED, "", "The command could not be sent."),
        (AttemptOutcome.SUPERSEDED, "", "The process that was sending the command stopped."),
    ],
)
def test_the_last_attempt_of_the_policy_exhausts_and_says_what_happened(
    outcome: AttemptOutcome, error: str, words: str
) -> None:
    last = failed(claimed(replace(DUE, attempt=2)), outcome, error)
    assert (last.status, last.exhausted_by, last.settled_at) == (CommandStatus.EXHAUSTED, ExhaustedBy.ATTEMPTS, NOW)
    assert text(last) == f"Failed after 3 attempts. {words}"


@pytest.mark.parametrize(("error", "how"), [("no such image", "is"), ("no such image: 7", "begins with")])
def test_a_non_retryable_error_exhausts_at_once_and_says_which(error: str, how: str) -> None:
    refused = failed(claimed(DUE), error=error)
    assert (refused.status, refused.exhausted_by) == (CommandStatus.EXHAUSTED, ExhaustedBy.NON_RETRYABLE)
    assert f'the error {how} "no such image"' in text(refused)
    assert text(refused).endswith(error)


def test_what_the_broker_will_never_take_exhausts_at_once() -> None:
    refused = claimed(DUE).failed(AttemptOutcome.FAILED, "MessageTooBig", NOW, 0, permanent=True)
    assert (refused.status, refused.exhausted_by) == (CommandStatus.EXHAUSTED, ExhaustedBy.PERMANENT)


def test_an_error_is_kept_within_bounds_and_without_what_the_database_refuses() -> None:
    refused = failed(claimed(DUE), error="\x00" + "x" * 2000)
    assert refused.last_error_data is not None
    kept = refused.last_error_data["error"]
    assert len(kept) == MAXIMUM_ERROR_CHARACTERS
    assert "\x00" not in kept
    assert kept.endswith("…")


@pytest.mark.parametrize(
    "status",
    [CommandStatus.PLANNED, CommandStatus.WAITING, CommandStatus.EXHAUSTED, *map(CommandStatus, ("confirmed",))],
)
def test_a_refusal_without_an_open_attempt_changes_nothing(status: CommandStatus) -> None:
    standing = replace(DUE, status=status)
    assert failed(standing) is standing


@pytest.mark.parametrize(("times", "wait"), [(0, 1), (1, 2), (5, 32), (6, 60), (5000, 60)])
def test_what_did_not_reach_the_broker_does_not_count_and_comes_back_soon(times: int, wait: float) -> None:
    back = claimed(DUE).publish_unreachable("timeout", NOW, times)
    assert (back.status, back.attempt, back.next_at) == (CommandStatus.WAITING, 0, seconds(wait))


def test_an_outage_never_exhausts() -> None:
    standing = DUE
    for times in range(100):
        standing = claimed(standing).publish_unreachable("timeout", NOW, times)
    assert (standing.status, standing.attempt) == (CommandStatus.WAITING, 0)


def test_given_back_only_while_it_is_being_published() -> None:
    refused = failed(claimed(DUE))
    assert refused.publish_unreachable("timeout", NOW, 0) is refused


def test_a_retry_opens_a_round_with_a_full_policy_due_at_once() -> None:
    exhausted = failed(claimed(replace(DUE, attempt=2)))
    retried = exhausted.settle("retried", seconds(9), round=2)
    assert (retried.status, retried.round, retried.attempt, retried.next_at) == (
        CommandStatus.WAITING,
        2,
        0,
        seconds(9),
    )
    assert (retried.exhausted_by, retried.settled_at) == ("", None)
    assert retried.settle("retried", seconds(10), round=2) is retried


def test_what_the_service_would_refuse_is_exhausted_in_every_round() -> None:
    never = replace(PLANNED, invalid="not-a-uuid:image_id").never_sent(NOW)
    retried = never.settle("retried", NOW, round=2)
    for standing in (never, retried):
        assert (standing.status, standing.exhausted_by) == (CommandStatus.EXHAUSTED, ExhaustedBy.INVALID)
        assert text(standing).startswith("The service accepts only a UUID in image_id")
    assert (never.round, retried.round) == (1, 2)


def test_a_confirmation_is_one_even_after_it_was_given_up() -> None:
    given_up = claimed(DUE).settle("withdrawn", NOW)
    confirmed = given_up.settle("confirmed", seconds(1), event_id="e1")
    assert (confirmed.status, confirmed.settled_at, confirmed.settled_event) == (
        CommandStatus.CONFIRMED,
        seconds(1),
        "e1",
    )
    assert confirmed.settle("confirmed", seconds(2), event_id="e2") is confirmed


def test_after_giving_up_there_is_no_retry() -> None:
    skipped = DUE.settle("skipped", NOW, by_hand=True)
    assert skipped.settle("retried", NOW, round=2) is skipped
    assert skipped.settle("withdrawn", NOW) is skipped
    assert skipped.by_hand


@pytest.mark.parametrize(
    ("word", "outcome"),
    [
        ("confirmed", AttemptOutcome.CONFIRMED),
        ("skipped", AttemptOutcome.SUPERSEDED),
        ("retried", AttemptOutcome.SUPERSEDED),
    ],
)
def test_how_a_word_ends_the_attempt_under_way(word: SettlementStatus, outcome: AttemptOutcome) -> None:
    for before in (claimed(DUE), claimed(DUE).sent(NOW)):
        assert ended_as(before, before.settle(word, NOW, round=2)) == outcome
    assert ended_as(DUE, DUE.settle(word, NOW, round=2)) is None
    assert ended_as(before, before) is None


words = st.one_of(
    st.sampled_from(["confirmed", "skipped", "withdrawn"]).map(lambda word: (word, 0)),
    st.integers(1, 4).map(lambda round: ("retried", round)),
)
happenings = st.one_of(
    words,
    st.sampled_from([("claim", 0), ("sent", 0), ("failed", 0), ("given back", 0), ("deadline", 0)]),
)
births = st.builds(
    lambda confirmation, invalid: replace(DUE, confirmation=confirmation, invalid=invalid),
    confirmation=st.sampled_from(ConfirmationKind.values),
    invalid=st.sampled_from(["", "", "no UUID"]),
).map(lambda one: one.never_sent(NOW) if one.invalid else one)


def happens(standing: CommandSnapshot, what: tuple[str, int]) -> CommandSnapshot:
    """Let something happen where the code around the standing would let it happen."""
    word, round = what
    match word:
        case "claim":
            return claimed(standing) if standing.next_at else standing
        case "sent":
            return standing.sent(NOW) if standing.status == CommandStatus.PUBLISHING else standing
        case "failed":
            return failed(standing)
        case "given back":
            return standing.publish_unreachable("away", NOW, 0)
        case "deadline":
            overdue = standing.status == CommandStatus.PUBLISHED and standing.deadline_at is not None
            return failed(standing, AttemptOutcome.DEADLINE, "") if overdue else standing
    return standing.settle(word, NOW, round=round)  # type: ignore[arg-type]


def rank(standing: CommandSnapshot) -> str:
    return "given up" if standing.status in (CommandStatus.SKIPPED, CommandStatus.WITHDRAWN) else standing.status


@given(born=births, said=st.lists(words, max_size=6), data=st.data())
def test_the_order_of_settlements_cannot_matter(
    born: CommandSnapshot, said: list[tuple[str, int]], data: st.DataObject
) -> None:
    other = data.draw(st.permutations(said))
    one, two = born, born
    for word in said:
        one = happens(one, word)
    for word in other:
        two = happens(two, word)
    assert rank(one) == rank(two)
    if not one.settled:
        assert one.round == two.round


@given(born=births, story=st.lists(happenings, max_size=40))
def test_whatever_happens_nothing_is_forgotten(born: CommandSnapshot, story: list[tuple[str, int]]) -> None:
    standing = born
    for what in story:
        before, standing = standing, happens(standing, what)
        assert 0 <= standing.attempt <= POLICY.maximum_attempts
        assert standing.round >= before.round
        assert (standing.next_at is not None) == (standing.status in (CommandStatus.PLANNED, CommandStatus.WAITING))
        assert (standing.claimed_at is not None) == (standing.status == CommandStatus.PUBLISHING)
        waits_for_answer = (
            standing.status == CommandStatus.PUBLISHED and standing.confirmation == ConfirmationKind.EVENT
        )
        assert (standing.deadline_at is not None) == waits_for_answer
        assert (standing.settled_at is not None) == (standing.settled or standing.status == CommandStatus.EXHAUSTED)
        assert (standing.exhausted_by != "") == (standing.status == CommandStatus.EXHAUSTED)
        if before.status == CommandStatus.CONFIRMED:
            assert standing is before
        if before.settled:
            assert standing is before or standing.status == CommandStatus.CONFIRMED


# --- leases ---------------------------------------------------------------------------------------------------------

RESULTS = {
    "sent": PublishResult(PLANNED.id, "1:1", None, reachable=True, permanent=False),
    "failed": PublishResult(PLANNED.id, None, "pulsar:Timeout", reachable=True, permanent=False),
    "refused by the broker": PublishResult(PLANNED.id, None, "pulsar:MessageTooBig", reachable=True, permanent=True),
    "away": PublishResult(PLANNED.id, None, "pulsar:ConnectError", reachable=False, permanent=False),
}
records = st.tuples(st.sampled_from(list(RESULTS)), st.integers(0, 5))
interruptions = st.one_of(
    words, st.sampled_from([("lost", 0), ("refused", 0), ("not required", 0), ("required again", 0), ("deadline", 0)])
)


def claim_of(standing: CommandSnapshot) -> Claim:
    return Claim(standing.id, 1, standing.round, standing.attempt, "topic", "", "", standing.entity, True, {})


def interrupted(standing: CommandSnapshot, what: tuple[str, int]) -> CommandSnapshot:
    """Let something other than a publisher change the command."""
    match what[0]:
        case "lost":
            return failed(standing, AttemptOutcome.SUPERSEDED, "") if standing.claimed_at else standing
        case "refused":
            return standing.refused("busy", NOW, NOW, has_open_attempt=standing.in_flight)
        case "not required":
            return standing.not_required()
        case "required again":
            return standing.required_again(NOW, exhausted=False)
    return happens(standing, what)


CLAIM, LOST = ("claim", 0), ("lost", 0)


@given(born=births, story=st.lists(st.one_of(st.sampled_from([CLAIM, LOST]), records, interruptions), max_size=40))
@example(born=DUE, story=[CLAIM, LOST, CLAIM, ("sent", 0)])
@example(born=DUE, story=[CLAIM, ("retried", 2), CLAIM, ("failed", 0)])
@example(born=DUE, story=[CLAIM, ("refused", 0), ("sent", 0)])
@example(born=DUE, story=[CLAIM, ("away", 0), CLAIM, LOST, CLAIM, ("sent", 0)])
def test_only_the_attempt_that_holds_the_lease_writes(born: CommandSnapshot, story: list[tuple[str, int]]) -> None:
    """Any number of publishers, each as slow as it likes; each records its attempt once, whatever came between."""
    standing, slow, holder = born, [], None
    for what in story:
        before = standing
        if what == CLAIM:
            if standing.next_at:
                standing = claimed(standing)
                holder = claim_of(standing)
                slow.append(holder)
            continue
        if what[0] in RESULTS:
            if not slow:
                continue
            late = slow.pop(what[1] % len(slow))
            standing = delivery._outcome(standing, late, RESULTS[what[0]], 0, NOW)
            assert (standing is not before) == (late is holder)
        else:
            standing = interrupted(standing, what)
        if standing is not before:
            assert standing.claimed_at is None, "whatever changes a claimed command ends its lease"
            holder = None
        assert all(standing.is_leased_to(claim.round, claim.attempt) == (claim is holder) for claim in slow)
