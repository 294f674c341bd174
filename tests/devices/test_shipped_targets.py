"""The targets that come with hwnas: all there, each fact with its source, none against another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from hwnas.devices import FactsOnly, Target, list_targets, load_description, load_target
from hwnas.devices.facts import Fact
from hwnas.devices.target_schema import target_schema, target_schema_text
from hwnas.doctor import JETPACK, Overrides, platforms
from hwnas.errors import UserError

TARGETS = Path(__file__).resolve().parents[2] / "targets"
EVERY = [load_description(path) for path in sorted(TARGETS.glob("*.yaml"))]
KNOWN_KINDS = [target for target in EVERY if target.connection.kind == "ssh"]
ASKED_FOR = """
jetson-nano-4gb jetson-tx2 jetson-xavier-nx-8gb jetson-agx-xavier-32gb
jetson-orin-nano-4gb jetson-orin-nano-4gb-super jetson-orin-nano-8gb jetson-orin-nano-8gb-super
jetson-orin-nx-8gb jetson-orin-nx-16gb jetson-agx-orin-32gb jetson-agx-orin-64gb jetson-agx-thor
gtx-1080-ti rtx-2080-ti rtx-3060 rtx-3090 rtx-4070 rtx-4090 rtx-5090 t4 a100-40gb a100-80gb h100
raspberry-pi-4 raspberry-pi-5 host-cpu
"""
OF_A_JETSON = """
module part_numbers soc compute_capability sms memory_gib memory_bandwidth_gb_s dla_cores precisions power_modes
jetpacks
"""
OF_A_GPU = "module gpu_names compute_capability sms memory_gib memory_bandwidth_gb_s precisions tensorrt_range"
OF_A_CPU = "module device_tree_models soc cpu cpu_cores memory_bandwidth_gb_s precisions"


def named(targets: list[Any]) -> Any:
    return pytest.mark.parametrize("target", targets, ids=lambda target: target.name)


def test_every_device_is_there() -> None:
    assert set(ASKED_FOR.split()) <= {target.name for target in EVERY}


@named(KNOWN_KINDS)
def test_a_kind_of_device_has_the_facts_that_describe_one(target: Target | FactsOnly) -> None:
    needed = {"jetson": OF_A_JETSON, "gpu": OF_A_GPU, "cpu": OF_A_CPU}[target.kind].split()
    assert [name for name in needed if getattr(target.facts, name) is None] == []


@named([target for target in EVERY if target.kind == "jetson" and target.facts.jetpacks and target.support == "full"])
def test_jetpacks_and_versions_of_tensorrt_agree(target: Target) -> None:
    facts = target.facts
    assert facts.jetpacks is not None and facts.tensorrt_range is not None
    known = facts.tensorrt_range.value
    assert JETPACK[facts.jetpacks.value[0]] == known.oldest
    assert (known.newest or "").startswith(JETPACK[facts.jetpacks.value[-1]])
    assert len(platforms(target, Overrides())) == len(facts.jetpacks.value)


@named([target for target in EVERY if target.facts.power_modes])
def test_power_modes_are_told_apart_and_have_their_multiprocessors(target: Target | FactsOnly) -> None:
    facts = target.facts
    assert facts.power_modes is not None and facts.sms is not None
    modes = facts.power_modes.value
    assert len({mode.id for mode in modes.values()}) == len(modes)
    assert sum(mode.default for mode in modes.values()) <= 1
    expected = facts.sms_by_power_mode.value if facts.sms_by_power_mode else {}
    assert set(expected) in (set(), set(modes))
    assert all(sms <= facts.sms.value for sms in expected.values())
    assert not expected or max(expected.values()) == facts.sms.value
    for name, mode in modes.items():
        assert mode.tpcs is None or expected[name] == 2 * mode.tpcs


@named([target for target in EVERY if target.support == "full"])
def test_runtimes_compute_in_what_the_hardware_has(target: Target) -> None:
    if target.facts.precisions is not None:
        for runtime in target.runtimes.values():
            assert set(runtime.precisions) <= set(target.facts.precisions.value)
    assert ("dla" in target.runtimes.get("tensorrt", next(iter(target.runtimes.values()))).providers) == bool(
        target.dla_cores or target.name == "local-jetson"
    )


@named(EVERY)
def test_from_memory_is_a_field_and_no_word_in_a_source(target: Target | FactsOnly) -> None:
    facts = [fact for _, fact in target.facts if isinstance(fact, Fact)]
    assert all("memory" not in fact.source.split() and "unverified" not in fact.source for fact in facts)


@pytest.mark.parametrize("name", ["jetson-nano-4gb", "jetson-tx2"])
def test_devices_that_are_too_old_are_refused_in_one_sentence(name: str) -> None:
    described = load_description(name)
    assert described.support == "facts-only" and described in list_targets()
    with pytest.raises(UserError) as refused:
        load_target(name)
    sentence = str(refused.value)
    assert sentence.startswith(f"Target '{name}' is described by facts alone, and nothing can be measured")
    assert "TensorRT 8.2 and Python 3.6" in sentence and "\n" not in sentence
    assert sentence.count(". ") == 0


def test_the_published_schema_is_the_models() -> None:
    published = (TARGETS / "target.schema.json").read_text()
    assert published == target_schema_text(), "make it anew: hwnas targets schema > targets/target.schema.json"


def test_the_schema_describes_every_field_of_a_target_and_knows_the_keys_of_each_file() -> None:
    definitions = target_schema()["$defs"]
    assert set(definitions["Target"]["required"]) == {
        *("schema", "name", "description", "kind", "connection", "runtimes", "defaults")
    }
    assert definitions["Extension"]["required"] == ["schema", "name", "extends"]
    assert definitions["Facts"]["properties"]["sms_by_power_mode"]["description"].startswith("How many")
    assert definitions["Target"]["properties"]["extends"]["description"].startswith("The target from which")
    assert "Fact_" not in json.dumps(definitions)
    for path in sorted(TARGETS.glob("*.yaml")):
        content = yaml.safe_load(path.read_text())
        kind = "Extension" if "extends" in content else "FactsOnly" if "why" in content else "Target"
        assert set(content) <= set(definitions[kind]["properties"])
        assert set(definitions[kind]["required"]) <= set(content)
        assert set(content.get("facts", {})) <= set(definitions["Facts"]["properties"])
