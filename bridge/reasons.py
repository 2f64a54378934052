"""Why something went wrong, as a code with parameters: stored like that, and written out in the reader's language.

The column of a reason holds its code, such as "too-large", or a code with one argument, such as "pulsar:Timeout". A
reason with more parameters has a column of JSON beside it. Earlier releases stored English sentences in these columns;
such a text is no code, and is shown as it is. So is the code of a later release.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from django.utils import translation
from django.utils.formats import number_format
from django.utils.text import get_text_list
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

# Separates the notes of an event, which are kept in one column.
_SEPARATOR = "; "


class Reason(NamedTuple):
    """One reason. `data`: its named parameters: texts, numbers, lists of texts, or reasons again (see `nested`)."""

    code: str
    data: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        """Return the English text, for logs and exceptions. Only for reasons without payload."""
        return english(self.code, self.data)

    @property
    def nested(self) -> dict[str, Any]:
        """The reason as a parameter of another one."""
        return {"code": self.code, **(self.data or {})}


def reason(code: str, **data: Any) -> Reason:
    """Make a reason from its code and its parameters."""
    return Reason(code, data or None)


def text(
    code: str,
    data: Mapping[str, Any] | None = None,
    *,
    texts: Mapping[str, Any] | None = None,
    payload: Callable[[str], str] = str,
) -> str:
    """Write a stored reason out in the current language. A text that is no known code is returned as it is.

    texts: the table of codes (default: TEXTS). payload: how a text of a service (the parameter `error`) is shown.
    """
    known = TEXTS if texts is None else texts
    name, _colon, argument = code.partition(":")
    template = known.get(code, known.get(name))
    if template is None:
        return code
    values = {key: _value(key, value, known, payload) for key, value in (data or {}).items()}
    try:
        return str(template % {"argument": argument, **values})
    except (KeyError, TypeError, ValueError):  # a later release has other parameters
        return code


def english(code: str, data: Mapping[str, Any] | None = None) -> str:
    """Write a stored reason out in English, for logs and exceptions."""
    with translation.override("en"):
        return text(code, data)


def notes_text(note: str) -> str:
    """Write the notes of an event out in the current language."""
    return _SEPARATOR.join(text(code) for code in note.split(_SEPARATOR))


def joined(notes: list[str]) -> str:
    """Return the codes of notes as they are stored with an event."""
    return _SEPARATOR.join(notes)


def _value(key: str, value: Any, texts: Mapping[str, Any], payload: Callable[[str], str]) -> Any:
    if isinstance(value, Mapping):
        inner = {name: item for name, item in value.items() if name != "code"}
        return text(str(value.get("code", "")), inner, texts=texts, payload=payload)
    if isinstance(value, list | tuple):
        return get_text_list([str(item) for item in value], gettext("and"))
    if key == "error":
        return payload(str(value))
    return _Number(value) if type(value) is int else value


class _Number(int):
    """A number that is written with the separators of the reader's language."""

    def __str__(self) -> str:
        return number_format(int(self), force_grouping=True)


# Every code with its text. A code is stored: it is never renamed, and one that is no longer written stays here.
TEXTS: Mapping[str, Any] = {
    # messages in quarantine
    "encrypted": _("the message is encrypted, and this service has no key"),
    "encrypted-batch": _("the body is a batch of %(count)s encrypted messages, and this service has no key"),
    "too-large": _("the body has %(size)s bytes; the limit is %(limit)s"),
    "empty": _("the body is empty"),
    "not-json": _("the body is not JSON (line %(line)s, column %(column)s)"),
    "not-utf8": _("the body is not valid UTF-8"),
    "utf-16": _("the body is text in UTF-16 or UTF-32: the producer must send JSON text in UTF-8"),
    "schema-typed": _("the body is %(argument)s: the producer must send JSON text in UTF-8"),
    "schema-typed:registry": _(
        "the body is Avro or Protobuf with a schema registry's header: the producer must send JSON text in UTF-8"
    ),
    "schema-typed:pulsar": _(
        "the body is of a format with a Pulsar schema, such as Avro or Protobuf: the producer must send JSON text in "
        "UTF-8"
    ),
    "not-an-object": _("the body is %(found)s, not an object"),
    "too-deep": _("the message is nested more than %(levels)s levels deep"),
    "number-too-large": _("a number is too large to be stored exactly"),
    "nul": _("invalid character: a string contains NUL, which PostgreSQL cannot store"),
    "surrogate": _("invalid character: a string contains a lone surrogate"),
    "no-type": _("the message has no type, and %(why)s"),
    "topic-as-type": _("the message gives its topic as its type, and %(why)s"),
    "unknown-type": _("no saga type declares the event type of this message"),
    "topic-of-nothing": _("no saga type declares its topic"),
    "topic-of-one-type": _("every %(type)s message must have its type"),
    "topic-without-default": _("its topic carries %(count)s types without a default"),
    "wrong-topic": _("%(type)s is not accepted from this topic, which carries only %(types)s"),
    "wrong-topic-of-nothing": _("%(type)s is not accepted from this topic, which no saga type declares"),
    "no-key": _("%(fields)s missing: the message cannot be assigned to a saga"),
    "bad-id": _("invalid id: %(field)s must be a string of 1 to 200 printable characters without surrounding spaces"),
    "timestamp-format": _(
        "timestamp is not in an accepted format: ISO 8601 with date and time, or YYYYMMDDHHMMSS as in HL7 and DICOM"
    ),
    "timestamp-too-early": _("implausible timestamp: before the year 2000"),
    "timestamp-in-the-future": _("implausible timestamp: more than one day in the future"),
    "wrong-type": _("%(field)s must be %(expected)s, but is %(found)s"),
    "conflicting-content": _("an event with this id and different content is already in the log"),
    "refused-by-database": _("the database rejected this event (%(argument)s)"),
    "pruned": _("its event was in the log and has been removed with its saga, which ended long ago"),
    "kept-in-part": _("only the first %(kept)s of its %(size)s bytes are kept: the service must send it again"),
    # kinds of JSON values
    "an-id": _("an id (1 to 200 printable characters without surrounding spaces)"),
    "a-list-of-ids": _("a list of ids (1 to 200 printable characters without surrounding spaces)"),
    "an-integer": _("a 32-bit integer"),
    "null": _("null"),
    "a-boolean": _("a boolean"),
    "a-number": _("a number"),
    "a-string": _("a string"),
    "a-list": _("a list"),
    "an-object": _("an object"),
    # notes of events
    "id-missing": _("the message has no id: its position on the topic is used"),
    "timestamp-missing": _("the message has no timestamp: its publish time is used"),
    "byte-order-mark": _("the body began with a byte order mark, which was skipped"),
    "stands-for-no-id": _("%(argument)s has a text that stands for no id: it counts as missing"),
    "entries-left-out": _("%(argument)s has entries that stand for no id: they were left out"),
    "ignored-a-string": _("%(argument)s is ignored: it must be a string"),
    "ignored-an-integer": _("%(argument)s is ignored: it must be a 32-bit integer"),
    "ignored-an-object": _("%(argument)s is ignored: it must be an object"),
    "not-used-no-key": _("%(argument)s: this saga type does not use it, because an id is missing"),
    "not-used-bad-id": _("%(argument)s: this saga type does not use it, because an id is invalid"),
    "not-used-wrong-type": _("%(argument)s: this saga type does not use it, because a field has the wrong type"),
    # the bridge and the publisher
    "database-refuses-events": _("the database does not accept events: %(argument)s"),
    "database-refuses-heartbeat": _("the database does not accept the heartbeat: %(argument)s"),
    "topic-not-read": _("no messages are read from %(topic)s: %(why)s"),
    "topic-timeout": _("Pulsar gave no answer for this topic in time: Timeout"),
    "unanswered": _("Pulsar gave no answer"),
    # the answers of Pulsar's client, with what they mean for the person who has to act on them
    "pulsar": _("Pulsar could not carry out the request: %(argument)s"),
    "pulsar:Timeout": _("Pulsar gave no answer in time (possibly a missing or wrong token): %(argument)s"),
    "pulsar:ConnectError": _(
        "cannot connect to Pulsar (it is not listening, or its certificate is not accepted): %(argument)s"
    ),
    "pulsar:AuthenticationError": _("Pulsar does not accept the token: %(argument)s"),
    "pulsar:AuthorizationError": _("Pulsar does not allow it: the token's role lacks a grant: %(argument)s"),
    "pulsar:LookupError": _(
        "Pulsar does not say where the topics are (a pattern of topics needs a grant of consume on the whole "
        "namespace, which the token's role may lack): %(argument)s"
    ),
    "pulsar:TopicNotFound": _(
        "the topic does not exist, and Pulsar does not create topics automatically: %(argument)s"
    ),
    "pulsar:ProducerBlockedQuotaExceededError": _("the topic is full: its messages are not consumed: %(argument)s"),
    "pulsar:ProducerBlockedQuotaExceededException": _("the topic is full: its messages are not consumed: %(argument)s"),
    "pulsar:InvalidTopicName": _("Pulsar does not accept this topic name: %(argument)s"),
    "pulsar:TopicTerminated": _("the topic was terminated: it accepts no further messages: %(argument)s"),
    "pulsar:NotAllowedError": _("Pulsar does not allow this on the topic: %(argument)s"),
    "pulsar:IncompatibleSchema": _("the topic has a schema, and messages without one do not fit it: %(argument)s"),
    "pulsar:ConsumerBusy": _(
        "another system holds the subscription exclusively, or the subscription has another type: %(argument)s"
    ),
    "pulsar:ProducerBusy": _("another producer holds the topic exclusively: %(argument)s"),
    "pulsar:ProducerFenced": _("another producer has taken the topic over exclusively: %(argument)s"),
}
