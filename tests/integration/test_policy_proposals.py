"""Four eyes at two desks: proposed, looked at, approved, rejected, published, rolled back; each step in the log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from tuf.api.metadata import Targets

import policy_support as support
from policy.metadata import TufSigner, parse_metadata
from policy.registrar import MADE_GOOD
from registrar_support import World
from zhiwang.policy.v1 import policy_pb2, policy_pb2_grpc
from zhiwang.wire.channel import refusal_of

pytestmark = pytest.mark.timeout(300)
"""Each test starts a dozen processes one after the other, and the machine may be busy."""

GRANT = support.HRSS[support.HRSS.index('[[grant]]\nid = "enrolment-insured"') : support.HRSS.index("[[assert]]")]
NARROWER = support.HRSS.replace(GRANT, "")


class Desk:
    """Two admins of the labour bureau, one of education, and the centre's."""

    def __init__(self, world: World, listen: str) -> None:
        self.world = world
        for name in ("first", "second"):
            world.profile(f"hrss-{name}", f"hrss/admin/{name}", listen)
        self.proposal = world.file("hrss-narrower.toml", NARROWER)

    def run(self, who: str, *arguments: object, status: int = 0) -> Any:
        profile = self.world.path / f"{who}.toml"
        return self.world.run("policy", *arguments, "--profile", profile, status=status)

    def sign(self, short: str) -> tuple[str, Path]:
        return "--sign", self.world.city.path(short)

    def propose(self, *more: object, file: Path | None = None) -> str:
        done = self.run("hrss-first", "propose", file or self.proposal, *self.sign("hrss/admin/first"), "--json", *more)
        (kept,) = json.loads(done.stdout)
        return str(kept["id"])

    def history(self, who: str = "hrss-first") -> list[tuple[str, str]]:
        steps = json.loads(self.run(who, "history", "--json").stdout)
        # What the city was founded with was published before there was a registrar to hand it to.
        steps = [step for step in steps if step["note"] != MADE_GOOD]
        return [(step["step"], step["admin"].partition("://")[2].partition("/")[2]) for step in steps]

    def insured_is_granted(self) -> bool:
        shown = json.loads(self.run("hrss-first", "show", "hrss", "--json").stdout)
        return any(grant["id"] == "enrolment-insured" for grant in shown["documents"]["hrss"]["grants"])


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, published=True)


def listening(world: World) -> str:
    return str(json.loads((world.state / "address.json").read_text())["listen"])


def test_what_one_admin_proposes_another_approves_and_every_step_is_in_the_log(world: World) -> None:
    with world.registrar():
        desk = Desk(world, listening(world))
        proposal = desk.propose("--note", "依据已失效 the basis has ended")
        shown = desk.run("hrss-second", "proposals", proposal).stdout
        assert "不再可以在440306" in shown
        assert "hrss/admin/first" in shown
        assert desk.insured_is_granted()
        # One signature is not enough, and the proposer's own does not count twice.
        told = desk.run("hrss-second", "publish", "--proposal", proposal, status=1).stderr
        assert "PROPOSAL_UNSIGNED" in told
        desk.run("hrss-first", "approve", proposal, *desk.sign("hrss/admin/first"), "--yes", status=1)
        desk.run("edu", "approve", proposal, *desk.sign("edu/admin/first"), "--yes", status=1)
        # Nobody named: the profile's own admin signs.
        approving = ("approve", proposal, "--yes", "--json")
        (approved,) = json.loads(desk.run("hrss-second", *approving).stdout)
        assert [one["admin"] for one in approved["approvals"]] == ["hrss/admin/first", "hrss/admin/second"]
        assert desk.insured_is_granted()
        desk.run("hrss-second", "publish", "--proposal", proposal)
        assert not desk.insured_is_granted()
        desk.run("hrss-second", "publish", "--proposal", proposal, status=1)
        assert desk.history() == [
            ("PUBLISHED", "hrss/admin/second"),
            ("APPROVED", "hrss/admin/second"),
            ("PROPOSED", "hrss/admin/first"),
        ]
        assert "依据已失效" in desk.run("hrss-first", "history").stdout
        # The centre's admins see what every department did; another department's only its own.
        assert ("PUBLISHED", "hrss/admin/second") in desk.history("dsjj")
        assert desk.history("edu") == []


def test_a_rejected_a_lapsed_and_a_forgotten_proposal_come_to_nothing(world: World) -> None:
    with world.registrar():
        desk = Desk(world, listening(world))
        rejected = desk.propose()
        desk.run("hrss-second", "reject", rejected, "--note", "no need")
        overtaken = desk.propose()
        world.publish("hrss", world.file("other.toml", support.HRSS.replace("[6, 12, 18, 24]", "[6, 12]")))
        for proposal in (rejected, overtaken, "0" * 16):
            approving = ("approve", proposal, *desk.sign("hrss/admin/second"), "--yes")
            assert "PROPOSAL_UNKNOWN" in desk.run("hrss-second", *approving, status=1).stderr
        assert [step for step, _ in desk.history()] == ["LAPSED", "PUBLISHED", "PROPOSED", "REJECTED", "PROPOSED"]
    # What is open outlives the registrar.
    with world.registrar():
        desk = Desk(world, listening(world))
        kept = desk.propose()
    with world.registrar():
        desk = Desk(world, listening(world))
        assert [one["id"] for one in json.loads(desk.run("hrss-first", "proposals", "--json").stdout)] == [kept]


def test_what_must_not_be_published_cannot_be_proposed(world: World) -> None:
    with world.registrar():
        desk = Desk(world, listening(world))
        sign = desk.sign("hrss/admin/first")
        unknown = world.file("unknown.toml", support.HRSS.replace('"senior-card"', '"no-such"'))
        assert "no matter no-such" in desk.run("hrss-first", "propose", unknown, *sign, status=1).stderr
        broken = world.file("broken.toml", support.HRSS.replace('deny = "hrss.pension', 'allow = "hrss.pension'))
        assert "ASSERTION_FAILED" in desk.run("hrss-first", "propose", broken, *sign, status=1).stderr
        note = ("--note", "for 440399199001010018")
        assert "NOTE_INVALID" in desk.run("hrss-first", "propose", desk.proposal, *sign, *note, status=1).stderr
        foreign = desk.run("edu", "propose", desk.proposal, *desk.sign("hrss/admin/first"), status=1)
        assert "RPC_NOT_ALLOWED" in foreign.stderr
        assert desk.history() == []


def test_what_is_in_force_and_not_in_the_log_is_recorded_at_the_next_start(world: World) -> None:
    """As after a kill between the publication and its entry."""
    assert world.kit is not None
    world.kit.publish(NARROWER)
    with world.registrar():
        desk = Desk(world, listening(world))
        steps = json.loads(desk.run("hrss-first", "history", "hrss", "--json").stdout)
        assert [(step["role"], step["version"], step["note"], len(step["key_ids"])) for step in steps] == [
            ("hrss", 2, MADE_GOOD, 2)
        ]
    with world.registrar():
        desk = Desk(world, listening(world))
        assert len(json.loads(desk.run("hrss-first", "history", "hrss", "--json").stdout)) == 1


def test_an_old_document_comes_back_as_a_new_version(world: World) -> None:
    with world.registrar():
        desk = Desk(world, listening(world))
        before = json.loads(desk.run("hrss-first", "show", "--json").stdout)
        world.publish("hrss", desk.proposal)
        assert not desk.insured_is_granted()
        both = (*desk.sign("hrss/admin/first"), *desk.sign("hrss/admin/second"))
        done = desk.run("hrss-first", "rollback", "hrss", "--to", before["version"], *both, "--yes", "--json")
        assert json.loads(done.stdout)["version"] == before["documents"]["hrss"]["version"] + 2
        assert desk.insured_is_granted()
        # With one signature it is a proposal.
        alone = ("rollback", "hrss", "--to", before["version"], *both[:2], "--yes", "--json")
        (one,) = json.loads(desk.run("hrss-first", *alone).stdout)
        assert one["note"] == f"rollback to directory {before['version']}"


def test_one_admin_suspends_by_a_command_and_two_lift(world: World) -> None:
    with world.registrar():
        desk = Desk(world, listening(world))
        alone = desk.sign("hrss/admin/first")
        stopped = json.loads(desk.run("hrss-first", "suspend", "--system", "edu/baoan", *alone, "--json").stdout)
        desk.run("hrss-first", "suspend", "--role", "edu/inspector", *alone, "--id", "second", "--until", "2099-01-01")
        asked = ["hrss.insured exists", "--system", "edu/baoan", "--role", "edu/enrolment-clerk"]
        where = ["--matter", "school-enrolment", "--jurisdiction", "nbs:440306"]
        assert stopped["id"] in desk.run("hrss-first", "explain", *asked, *where, status=1).stdout
        shorter = world.file("suspend.toml", 'department = "hrss"\n')
        refused = desk.run("hrss-first", "publish", shorter, *alone, status=1)
        assert "zhiwang policy lift" in refused.stderr
        desk.run("hrss-first", "suspend", *alone, status=2)
        desk.run("hrss-first", "lift", "no-such", *alone, status=2)
        (proposed,) = json.loads(desk.run("hrss-first", "lift", stopped["id"], *alone, "--json").stdout)
        desk.run("hrss-first", "explain", *asked, *where, status=1)
        approving = ("approve", proposed["id"], *desk.sign("hrss/admin/second"), "--yes", "--publish")
        desk.run("hrss-second", *approving)
        assert "allowed" in desk.run("hrss-first", "explain", *asked, *where).stdout
        shown = json.loads(desk.run("hrss-first", "show", "--json").stdout)
        assert shown["suspended"] == ["hrss/second"]


async def test_an_approver_does_not_sign_more_than_the_files_say(world: World) -> None:
    """A proposer who also changes who may suspend, or how long the metadata is good, is found before the signature."""
    with world.registrar():
        desk = Desk(world, listening(world))
        assert world.kit is not None
        (drafted,) = world.kit.drafts(NARROWER)
        signed = drafted.metadata
        delegations = signed.signed.delegations
        assert delegations is not None
        assert delegations.roles is not None
        suspend = delegations.roles["hrss-suspend"]
        suspend.keyids = suspend.keyids[:1]
        signed.sign(TufSigner(world.kit.admins["hrss"][0]))
        async with world.channel("hrss/admin/first") as channel:
            stub = policy_pb2_grpc.PolicyAdminServiceStub(channel)
            files = [policy_pb2.PublishRequest.File(path=path, content=data) for path, data in drafted.files.items()]
            publication = policy_pb2.PublishRequest(role="hrss", metadata=signed.to_bytes(), files=files)
            response = await stub.Propose(policy_pb2.ProposeRequest(publication=publication))
            approving = ("approve", response.proposal.id, *desk.sign("hrss/admin/second"), "--yes")
            with pytest.raises(grpc.aio.AioRpcError) as again:
                await stub.ApproveProposal(
                    policy_pb2.ApproveProposalRequest(proposal_id=response.proposal.id, metadata=signed.to_bytes())
                )
            assert refusal_of(again.value).reason.name == "PROPOSAL_SIGNED"
            assert "says more than its files" in desk.run("hrss-second", *approving, status=1).stderr
            # A signature over something else is no approval of this.
            (other,) = world.kit.drafts(support.HRSS.replace("[6, 12, 18, 24]", "[6]"))
            other.metadata.sign(TufSigner(world.kit.admins["hrss"][1]))
            request = policy_pb2.ApproveProposalRequest(
                proposal_id=response.proposal.id, metadata=other.metadata.to_bytes()
            )
            with pytest.raises(Exception, match="METADATA_INVALID") as caught:
                await stub.ApproveProposal(request)
            assert refusal_of(caught.value).reason.name == "METADATA_INVALID"
            kept = await stub.GetProposal(policy_pb2.GetProposalRequest(proposal_id=response.proposal.id))
            assert len(parse_metadata(kept.publication.metadata, Targets).signatures) == 1
