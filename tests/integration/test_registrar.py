"""The registrar as a process, driven by the commands that people use, over mTLS."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import grpc
import pytest

import policy_support as support
from policy.directory import DirectoryClient, DirectoryHolder
from policy.follower import Follower
from policy.mirror import Mirror
from registrar_support import PATIENCE, World, found_city, publish_all
from zhiwang.exchange.v1 import exchange_pb2, exchange_pb2_grpc
from zhiwang.policy.v1 import policy_pb2, policy_pb2_grpc
from zhiwang.wire.channel import refusal_of
from zhiwang.wire.errors import Reason

SUSPEND = 'department = "hrss"\n[[suspend]]\nid = "leak"\nrole = "edu/enrolment-clerk"\n'


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, published=True)


def test_a_city_is_founded_published_and_shown_by_the_commands_alone(tmp_path: Path) -> None:
    world = World(tmp_path, published=False)
    found_city(world)
    hrss = world.path / "hrss.toml"
    with world.registrar() as process:
        publish_all(world)
        shown = json.loads(world.run("policy", "show", "--profile", hrss, "--json").stdout)
        assert set(shown["documents"]) == {"edu", "hrss", "health"}
        assert "养老保险" in world.run("policy", "show", "hrss", "--profile", hrss).stdout
        world.run("policy", "show", "police", "--profile", hrss, status=2)

        asked = ["hrss.insured exists", "--system", "edu/enrolment", "--role", "edu/enrolment-clerk"]
        where = ["--matter", "school-enrolment", "--jurisdiction", "nbs:440306", "--profile", hrss]
        explained = world.run("policy", "explain", *asked, *where).stdout
        assert "allowed" in explained
        assert "hrss/enrolment-insured applies" in explained

        told = world.publish("hrss", world.file("suspend.toml", SUSPEND))
        assert "hrss-suspend" in told
        denied = world.run("policy", "explain", *asked, *where, status=1).stdout
        assert "hrss suspends it: leak" in denied

        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    with world.registrar():
        assert json.loads(world.run("policy", "show", "--profile", hrss, "--json").stdout)["suspended"] == ["hrss/leak"]


def test_wrong_commands_are_told_what_to_do_and_change_nothing(world: World) -> None:
    hrss = world.path / "hrss.toml"
    document = world.file("hrss-document.toml", support.HRSS)
    world.run("registrar", "init", "--profile", world.path / "registrar.toml", status=1)
    with world.registrar():
        before = world.run("policy", "show", "--profile", hrss, "--json").stdout

        bad = world.file("bad.toml", support.HRSS.replace('"hrss.insured exists"', '"police.age exists"'))
        told = world.publish("hrss", bad, status=1)
        assert f"{bad}:" in told
        assert "grant[1].ask" in told
        assert "grant[1].ask" in world.run("policy", "check", bad, status=1).stderr
        world.run("policy", "check", document)

        one = world.run(
            "policy",
            "publish",
            document,
            "--profile",
            hrss,
            "--sign",
            world.city.path("hrss/admin/first"),
            status=1,
        )
        assert "2 signatures" in one.stderr

        foreign = world.run(
            "policy",
            "publish",
            document,
            "--profile",
            world.path / "edu.toml",
            *world.signs("hrss"),
            status=1,
        )
        assert "RPC_NOT_ALLOWED" in foreign.stderr

        unknown = world.file("unknown.toml", support.HRSS.replace('"senior-card"', '"no-such"'))
        assert "there is no matter no-such" in world.publish("hrss", unknown, status=1)
        assert world.run("policy", "show", "--profile", hrss, "--json").stdout == before


async def test_a_follower_has_a_change_as_soon_as_it_is_published(world: World) -> None:
    with world.registrar():
        async with world.channel("dsjj/hub/main") as channel:
            stub = exchange_pb2_grpc.DirectoryServiceStub(channel)
            holder, mirror = DirectoryHolder(), Mirror()
            root = (world.city.root / "root.json").read_bytes()
            client = DirectoryClient(root, world.city.ca_pem, world.path / "hub-directory")
            follower = Follower(client, holder, {"registrar": lambda: stub}, mirror=mirror)
            await follower.begin()
            assert holder.current.documents["hrss"].grants
            changed = asyncio.Event()
            holder.on_change(lambda _: changed.set())
            following = asyncio.create_task(follower.follow())
            await asyncio.sleep(0)
            try:
                await world.send(SUSPEND)
                async with asyncio.timeout(PATIENCE):
                    while not holder.current.suspensions:
                        changed.clear()
                        await changed.wait()
                assert mirror.timestamp == mirror.read("metadata/timestamp.json")
                assert holder.problem is None
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
    # With nobody there, a restart goes on from disk until the directory expires.
    async with world.channel("dsjj/hub/main") as channel:
        stub, again = exchange_pb2_grpc.DirectoryServiceStub(channel), DirectoryHolder()
        await Follower(client, again, {"registrar": lambda: stub}).begin()
    assert again.current == holder.current
    assert again.problem is not None
    assert again.problem.startswith("unreachable")


async def test_only_admins_publish_and_only_what_is_theirs(world: World) -> None:
    with world.registrar():
        cases: list[tuple[str, str, Reason]] = [
            ("edu/system/enrolment", "edu", Reason.RPC_NOT_ALLOWED),
            ("dsjj/hub/main", "targets", Reason.RPC_NOT_ALLOWED),
            ("edu/admin/first", "hrss", Reason.RPC_NOT_ALLOWED),
            ("edu/admin/first", "targets", Reason.RPC_NOT_ALLOWED),
            ("edu/admin/first", "root", Reason.RPC_NOT_ALLOWED),
            ("dsjj/admin/first", "hrss", Reason.RPC_NOT_ALLOWED),
            ("hrss/admin/first", "hrss", Reason.METADATA_INVALID),
            ("hrss/admin/first", "hrss-suspend", Reason.METADATA_INVALID),
            ("dsjj/admin/first", "targets", Reason.METADATA_INVALID),
            ("dsjj/admin/first", "root", Reason.METADATA_INVALID),
        ]
        for short, role, reason in cases:
            async with world.channel(short) as channel:
                assert (
                    await refused(
                        policy_pb2_grpc.PolicyAdminServiceStub(channel).Publish(
                            policy_pb2.PublishRequest(role=role, metadata=b"{}"), timeout=PATIENCE
                        )
                    )
                    is reason
                ), (short, role)
        async with world.channel("edu/agent/main") as channel:
            directory = exchange_pb2_grpc.DirectoryServiceStub(channel)
            for path in (
                "",
                "metadata/9.root.json",
                "../keys/snapshot.key",
                "targets/../../keys/snapshot.key",
                "x" * 9999,
            ):
                request = exchange_pb2.GetFileRequest(path=path)
                assert await refused(directory.GetFile(request, timeout=PATIENCE)) is Reason.FILE_UNKNOWN
            policy = policy_pb2_grpc.PolicyServiceStub(channel)
            assert await refused(policy.GetDirectory(policy_pb2.GetDirectoryRequest())) is Reason.RPC_NOT_ALLOWED
        async with world.channel("dsjj/auditor/zhao") as channel:
            policy = policy_pb2_grpc.PolicyServiceStub(channel)
            answer = await policy.GetDirectory(policy_pb2.GetDirectoryRequest(), timeout=PATIENCE)
            assert answer.role_versions["hrss"] == 1
            explained = await policy.Explain(
                policy_pb2.ExplainRequest(
                    system="spiffe://shenzhen/edu/system/enrolment",
                    role="edu/enrolment-clerk",
                    ask="hrss.insured exists",
                    jurisdiction="nbs:440306",
                    matter="school-enrolment",
                ),
                timeout=PATIENCE,
            )
            assert explained.allowed
            assert list(explained.rule_ids) == ["hrss/enrolment-insured"]


async def refused(call: Any) -> Reason:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return refusal_of(error.value).reason


async def test_killing_the_registrar_at_any_moment_leaves_a_directory_that_readers_take(world: World) -> None:
    for number in range(5):
        with world.registrar() as process:
            sending = asyncio.create_task(world.send(f"{support.HRSS}\n# {number}\n"))
            await asyncio.sleep(0.03 * number)
            os.kill(process.pid, signal.SIGKILL)
            await asyncio.gather(sending, return_exceptions=True)
    with world.registrar():
        await world.send(support.HRSS + "\n# last\n")
        shown = world.run("policy", "show", "hrss", "--profile", world.path / "hrss.toml", "--json").stdout
        assert json.loads(shown)["documents"]["hrss"]["version"] >= 2
