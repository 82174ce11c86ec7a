"""What `acredssp probe` and `doctor` say of a gateway: it answers as a server does, and the probe is no logon."""

from support.endpoints import client_config

import acredssp
from acredssp.cli.doctor import Patient, examine
from acredssp.cli.login import Login
from acredssp.cli.probe import probe_one
from acredssp.cli.probing import Pace, Prober
from acredssp.rdp import RDP
from acredssp.workers import Address

FAR = 3600.0


def prober():
    return Prober(pace=Pace(0), timeout=FAR, trust=acredssp.Trust(), server_name="localhost")


def ids(findings):
    return {each.id for each in findings}


def patient(here, password):
    policy = acredssp.Policy(dangerous_accept_any_certificate=True)
    config = client_config(policy, authenticate=acredssp.Password(password, "alice", "CONTOSO"))
    address = Address(*here.address)
    return Patient.of(
        Login(
            address=address,
            config=config,
            carriage=RDP(hybrid_ex=True),
            server_hostname="localhost",
            spn=None,
            timeout=FAR,
        )
    )


async def test_a_probe_of_a_gateway_reaches_no_target_and_is_no_logon(world):
    async with world() as (here, target):
        probed = await probe_one(prober(), Address(*here.address))
        await here.until_ended(13)
        assert not target.logons
        assert not target.requests
    assert {"nla-required", "certificate-self-signed"} <= ids(probed.findings)
    assert probed.facts.answer.version == 6
    assert not [record for record in here.records if record.user]


async def test_the_doctor_logs_on_by_a_gateway(world):
    async with world() as (here, target):
        examination = await examine(patient(here, "wonderland"), prober())
        assert len(target.logons) == 1
    assert ids(examination.causes) == {"logon-succeeded"}


async def test_the_doctor_names_a_wrong_password_at_a_gateway(world):
    async with world() as (here, _target):
        examination = await examine(patient(here, "wrong"), prober())
    assert "wrong-credentials" in ids(examination.causes)
