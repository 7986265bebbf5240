"""What a person sets in `[policy]` and `[audit]`: verdicts, and when and how often people may be reached."""

from __future__ import annotations

import re
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from crm_mcp.channels import MESSAGES, Channel
from crm_mcp.errors import choices

if TYPE_CHECKING:  # the zones are read by those alone who use one
    from zoneinfo import ZoneInfo

Verdict = Literal["allow", "confirm", "approve", "deny"]
OfReading = Literal["allow", "deny"]
Fallback = Literal["token", "approval", "deny"]
OFF = "off"


class Closed(BaseModel):
    """The root of all settings: frozen, and without any key that is not named."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class QuietWindow(NamedTuple):
    """A part of each day, by the clock on the wall: `start` included, `end` excluded; it may go over midnight."""

    start: time
    end: time

    @classmethod
    def parse(cls, text: str) -> QuietWindow | None:
        """Return the window that is written `21:00-08:00`, None for `off`.

        Raises:
            ValueError: it is neither, has no length, or a time of it is none.
        """
        if text.strip().casefold() == OFF:
            return None
        ends = re.fullmatch(r"\s*(\d{1,2}):(\d\d)\s*-\s*(\d{1,2}):(\d\d)\s*", text, re.ASCII)
        if not ends:
            raise ValueError(f'"{text[:40]}" is no part of a day; give its start and end as 21:00-08:00, or off')
        hour, minute, last_hour, last_minute = (int(each) for each in ends.groups())
        for hours, minutes in ((hour, minute), (last_hour, last_minute)):
            if hours > 23 or minutes > 59:
                near = "00:00" if (hours, minutes) == (24, 0) else f"{min(hours, 23):02}:{min(minutes, 59):02}"
                raise ValueError(f'"{hours:02}:{minutes:02}" is no time of day; valid: 00:00-23:59; nearest: "{near}"')
        if (hour, minute) == (last_hour, last_minute):
            raise ValueError(f'"{text[:40]}" begins and ends at the same time; give another end, or off')
        return cls(time(hour, minute), time(last_hour, last_minute))

    def has(self, moment: time) -> bool:
        """Whether a time of day falls into it."""
        if self.start < self.end:
            return self.start <= moment < self.end
        return moment >= self.start or moment < self.end

    def __str__(self) -> str:
        return f"{self.start:%H:%M}-{self.end:%H:%M}"


def _quiet(text: str) -> str:
    return str(QuietWindow.parse(text) or OFF)


def _day(value: object) -> object:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII):
        try:
            return date.fromisoformat(value)
        except ValueError:
            pass
    raise ValueError(f'"{str(value)[:40]}" is no date; give one as 2026-12-25')


def _field(name: str) -> str:
    if not any(c.isalnum() for c in name):
        raise ValueError("is empty; give the name of a field of the lead")
    return name.strip()


Limit = Annotated[int, Field(strict=True, ge=1)]
FieldName = Annotated[str, AfterValidator(_field)]


class LimitSettings(Closed):
    """How many at most; None: as many as are wanted."""

    email: Limit | None = None
    sms: Limit | None = None
    call: Limit | None = None
    linkedin: Limit | None = None
    messages: Limit | None = None
    """E-mails, SMS and LinkedIn messages together."""
    enrolments: Limit | None = None

    def of(self, channel: str) -> list[tuple[str, tuple[str, ...], int]]:
        """Return the limits that a use of this channel (a `Channel`, or `enrolment`) counts for: the name of each, the
        channels that it counts, and how many at most."""
        own: int | None = self.enrolments if channel == "enrolment" else getattr(self, channel)
        found: list[tuple[str, tuple[str, ...], int]] = [(channel, (channel,), own)] if own else []
        if channel in MESSAGES and self.messages:
            found.append(("messages", MESSAGES, self.messages))
        return found


class Stricter(Closed):
    """Verdicts of one connection, which can only be stricter than those of all."""

    read: OfReading | None = None
    write: Verdict | None = None
    outward: Verdict | None = None
    destructive: Verdict | None = None


class Sizes(Closed):
    """From how many records on an action is asked about, whatever else allows it."""

    confirm_from: Limit | None = None
    approve_from: Limit | None = None


class PolicySettings(Closed):
    """The verdict of each effect, tool, connection and size; and the rules of reaching people."""

    read: OfReading = "allow"
    write: Verdict = "allow"
    outward: Verdict = "confirm"
    destructive: Verdict = "confirm"
    quiet_hours: Annotated[str, AfterValidator(_quiet)] = "21:00-08:00"
    """When nobody is rung up or sent an SMS, by the recipient's clock; `off`: they may be at any time."""
    blackout_dates: tuple[Annotated[date, BeforeValidator(_day)], ...] = ()
    outbound: Literal["on", "off"] = "on"
    tools: dict[str, Verdict] = Field(default_factory=dict)
    operations: dict[str, Verdict] = Field(default_factory=dict)
    """Verdicts of single operations of a vendor: those that are off by default need one."""
    connections: dict[str, Stricter] = Field(default_factory=dict)
    sizes: Sizes = Sizes()
    daily_limits: LimitSettings = LimitSettings()
    """In a connection's local day."""
    contact_limits: LimitSettings = LimitSettings()
    """To one address in any seven days, by all connections together."""
    require_consent: dict[Channel, FieldName] = Field(default_factory=dict[Channel, str])
    """The field of a lead that must be set before a channel is used."""

    @property
    def quiet_window(self) -> QuietWindow | None:
        """The quiet hours; None where they are off."""
        return QuietWindow.parse(self.quiet_hours)


class AuditSettings(Closed):
    """What the audit log has beside writes and denials, and what seals it."""

    reads: Annotated[bool, Field(strict=True)] = False
    bodies: Annotated[bool, Field(strict=True)] = False
    """Texts of messages stand in it; else their hash and length."""
    attribution: Annotated[bool, Field(strict=True)] = False
    """What was done is also noted at the lead, in the CRM: by which agent, for whom, under which action."""
    key: SecretStr | None = None
    """What seals it; None: a key of its own in the data directory."""


def time_zone(name: str) -> ZoneInfo | None:
    """Return the time zone of this name in the IANA database, as `Europe/Berlin`; None where there is none."""
    from zoneinfo import ZoneInfo

    if name.startswith(_NO_ZONES):
        return None
    try:
        return ZoneInfo(name)
    # A folder of zones is no file, and a path that leads out of the database is no key.
    except (KeyError, ValueError, OSError):
        return None


_NO_ZONES = ("right/", "posix", "localtime", "Factory", "Etc/Unknown")
"""Files beside the zones: copies that count leap seconds, this machine's own zone, and names for none."""


def _zone_name(name: str) -> str:
    if time_zone(name):
        return name
    from zoneinfo import available_timezones

    raise ValueError(f'"{name[:60]}" is no time zone; {choices(name, sorted(available_timezones()))}')


ZoneName = Annotated[str, AfterValidator(_zone_name)]


def postgres_url(url: SecretStr) -> SecretStr:
    """Return the address of a PostgreSQL database as it is; what is wrong with another is said without it."""
    if not re.fullmatch(r"postgresql://[!-~]+", url.get_secret_value()):
        raise ValueError("is no postgresql:// address; give one as postgresql://user:password@host/database")
    return url
