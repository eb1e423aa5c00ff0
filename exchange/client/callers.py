"""Who may call an agent, in which roles and for which matters: `[[agent.caller]]` of its profile.

An agent speaks for one system. Whoever may call it can ask as that system, so nobody may unless the profile says so,
not even from the agent's own machine.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from exchange.client.case import Context
from zhiwang.wire.call import Peer
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.profile import AgentCaller, Defaults

LOCAL = "local"
"""In place of a certificate: callers on the agent's own machine."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who may call.

    Attributes:
        certificate: SPIFFE identity, or "local".
        roles: In which it may ask.
        matters: For which it may ask; empty for all.
    """

    certificate: str
    roles: tuple[str, ...]
    matters: tuple[str, ...]

    def context(self, context: Context, defaults: Defaults) -> Context:
        """The context under which this caller asks, completed.

        Raises:
            RefusedError: ROLE_NOT_HELD or MATTER_NOT_ALLOWED, with the field.
        """
        usual = defaults.role if defaults.role in self.roles or len(self.roles) != 1 else self.roles[0]
        role, matter = context.role or usual, context.matter or defaults.matter
        if role not in self.roles:
            raise RefusedError(Reason.ROLE_NOT_HELD, "not a role of this caller", field="context.role")
        if self.matters and matter not in self.matters:
            raise RefusedError(Reason.MATTER_NOT_ALLOWED, "not a matter of this caller", field="context.matter")
        return replace(context, role=role, matter=matter)


class Callers:
    """The profile's table.

    Args:
        callers: Its entries; a later one for the same certificate adds to the earlier.
    """

    def __init__(self, callers: Iterable[AgentCaller]) -> None:
        self._callers: dict[str, Caller] = {}
        for entry in callers:
            known = self._callers.get(entry.certificate)
            roles, matters = entry.roles, entry.matters
            if known is not None:
                roles = (*known.roles, *roles)
                matters = (*known.matters, *matters) if known.matters and matters else ()
            self._callers[entry.certificate] = Caller(entry.certificate, roles, matters)

    def of(self, peer: Peer) -> Caller:
        """The entry of a caller.

        Raises:
            RefusedError: CALLER_NOT_MAPPED.
        """
        certificate = LOCAL if peer.certified is None else peer.certified.uri
        caller = self._callers.get(certificate)
        if caller is None:
            raise RefusedError(Reason.CALLER_NOT_MAPPED, peer.label)
        return caller
