"""How long a silence may be before the bridge subscribes again."""

from bridge.pulsar.silence_timer import SilenceTimer


def looks(patience: SilenceTimer, until: float) -> list[float]:
    """When one would look, if nothing ever came."""
    found = []
    for tenth in range(int(until * 10)):
        now = tenth / 10
        if patience.is_over(now):
            patience.checked(now)
            found.append(now)
    return found


def test_the_wait_doubles_up_to_the_longest() -> None:
    waits = looks(SilenceTimer(8, 0.0), 35)
    assert [round(b - a) for a, b in zip([0.0, *waits], waits, strict=False)] == [1, 2, 4, 8, 8, 8]


def test_what_comes_soon_after_a_look_had_been_stuck_so_the_next_look_is_soon() -> None:
    patience = SilenceTimer(30, 0.0)
    for now in (2.0, 5.0, 10.0):
        patience.checked(now)
    patience.heard(10.2)
    assert patience.is_over(11.3)


def test_what_comes_in_its_own_time_changes_no_wait() -> None:
    patience = SilenceTimer(30, 0.0)
    patience.checked(2.0)
    patience.checked(5.0)
    patience.heard(7.0)
    assert not patience.is_over(10.9)
    assert patience.is_over(11.1)
