"""How a service answers one of our commands. Part of the script, so that the predictor knows it too."""

from dataclasses import dataclass
from enum import StrEnum
from random import Random

from devtools.simulator.options import Options
from devtools.simulator.wire import DELETE, ROLLBACK


class Manner(StrEnum):
    """How a service handles a command."""

    CONFIRM = "confirm"
    REFUSE = "refuse"  # refuses some attempts, confirms the next
    RELENT = "relent"  # refuses, then confirms without another attempt
    STUBBORN = "stubborn"  # refuses every attempt
    SILENT = "silent"  # never answers
    NAMELESS = "nameless"  # the anonymizer confirms without naming the image


class Voice(StrEnum):
    """The form in which the anonymizer confirms."""

    ROLLED_BACK = "rolled_back"
    OWN_TASK = "own_task"  # AnonymizationRolledBack under its own task id, with the image
    REVERSED = "reversed"  # AnonymizationFailed with a text that says that it is a rollback


@dataclass(frozen=True, slots=True)
class ServiceAnswer:
    """How a service answers one command. times: refusals before it confirms. after: seconds that the service takes."""

    manner: Manner = Manner.CONFIRM
    times: int = 0
    after: float = 0.0
    voice: Voice = Voice.ROLLED_BACK

    @property
    def undoes(self) -> bool:
        """Whether the command ends confirmed, given enough attempts."""
        return self.manner in (Manner.CONFIRM, Manner.REFUSE, Manner.RELENT)


def choose(command: str, options: Options, rng: Random) -> ServiceAnswer:
    """Choose how a command is answered. Draws the same numbers for all options, so that a seed keeps its script."""
    chance, kind, times, haste, pace = (rng.random() for _ in range(5))
    after = 1 + 2 * pace if haste < options.delay_rate else 0.15 * pace
    voice = list(Voice)[int(kind * len(Voice))]
    if chance < options.silence_rate:
        nameless = command == ROLLBACK and kind < 0.3
        return ServiceAnswer(
            Manner.NAMELESS if nameless else Manner.SILENT,
            after=after,
            voice=Voice.OWN_TASK if kind < 0.15 else Voice.ROLLED_BACK,
        )
    if command == DELETE:
        chance -= options.silence_rate
        if chance < options.stubborn_rate:
            return ServiceAnswer(Manner.STUBBORN, after=after)
        if chance - options.stubborn_rate < options.refuse_rate:
            manner = Manner.RELENT if kind < 0.3 else Manner.REFUSE
            return ServiceAnswer(manner, times=1 if manner is Manner.RELENT else 1 + int(2 * times), after=after)
    return ServiceAnswer(after=after, voice=voice)
