"""Alarms: held to promtool, to what the server exports, and to the runbook."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.deploying import DEPLOY, RUNBOOK, of_file
from vidvec.search.server.failures import STATUS
from vidvec.search.server.metrics import Metrics

FOLDER = DEPLOY / "prometheus"
RULES = (FOLDER / "rules.yaml").read_text("utf-8")
ALARMS = yaml.safe_load(RULES)["groups"][0]["rules"]


def _promtool(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    # `make test` puts one beside Python.
    program = shutil.which("promtool", path=Path(sys.executable).parent) or shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not here: make setup test, or apt-get install prometheus")
    return subprocess.run(
        [program, *words], cwd=folder, capture_output=True, text=True, check=False
    )


def test_promtool_takes_the_rules_and_their_tests():
    done = _promtool("test", "rules", "rules.test.yaml", folder=FOLDER)
    assert done.returncode == 0, done.stdout + done.stderr
    checked = _promtool("check", "rules", "rules.yaml", folder=FOLDER)
    assert f"SUCCESS: {len(ALARMS)} rules found" in checked.stdout


def test_alarms_that_never_come_up_do_not_pass(tmp_path):
    """Each alarm is seen to come up by the tests, and to stay down where all is well."""
    rules, names = yaml.safe_load(RULES), {each["alert"] for each in ALARMS}
    for rule in rules["groups"][0]["rules"]:
        rule["expr"] = "vector(1) > 2"
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules), "utf-8")
    shutil.copy(FOLDER / "rules.test.yaml", tmp_path)
    done = _promtool("test", "rules", "rules.test.yaml", folder=tmp_path)
    assert done.returncode != 0
    assert set(re.findall(r"alertname: (\w+)", done.stdout + done.stderr)) == names
    well = yaml.safe_load((FOLDER / "rules.test.yaml").read_text("utf-8"))["tests"][0]
    assert {each["alertname"] for each in well["alert_rule_test"]} == names
    assert not any(each["exp_alerts"] for each in well["alert_rule_test"])


def test_where_prometheus_looks(tmp_path):
    """But for the search through Kubernetes, which Debian's Prometheus was built without."""
    config = yaml.safe_load((FOLDER / "scrape.yaml").read_text("utf-8"))
    (scrape,) = config["scrape_configs"]
    (found,) = scrape.pop("kubernetes_sd_configs")
    deployment = of_file("search.yaml", "Deployment")
    assert found["namespaces"]["names"] == [deployment["metadata"]["namespace"]]
    label, value = found["selectors"][0]["label"].split("=")
    assert deployment["spec"]["template"]["metadata"]["labels"][label] == value
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["ports"][0]["name"] == scrape["relabel_configs"][0]["regex"]
    assert all(f'job="{scrape["job_name"]}"' in rule["expr"] for rule in ALARMS)
    scrape["static_configs"] = [{"targets": ["127.0.0.1:8000"]}]
    (tmp_path / "scrape.yaml").write_text(yaml.safe_dump(config), "utf-8")
    shutil.copy(FOLDER / "rules.yaml", tmp_path)
    done = _promtool("check", "config", "--syntax-only", "scrape.yaml", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_alarms_are_on_what_the_server_counts():
    metrics = Metrics()
    metrics.started()
    metrics.finished("POST", "/api/v1/search", 200, 0.1)
    metrics.refused("busy")
    metrics.upload("ok", 1)
    metrics.index(1, 1)
    metrics.shards({"shard-0": True})
    exported: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(metrics.text().decode()):
        for sample in family.samples:
            exported.setdefault(sample.name, set()).update(sample.labels)
    for rule in ALARMS:
        selectors = re.findall(r"\b(\w+)\{([^}]*)\}", rule["expr"])
        assert selectors
        for name, labels in selectors:
            used = set(re.findall(r'(\w+)=~?"', labels))
            if name == "up":  # Prometheus's own
                assert used == {"job"}
            else:
                assert used - {"job"} <= exported[name], rule["alert"]
        assert set(re.findall(r"\b(?:vidvec|up)_\w+|\bup\b", rule["expr"])) == {
            name for name, _ in selectors
        }
        for codes in re.findall(r'code=~?"([^"]*)"', rule["expr"]):
            assert set(codes.split("|")) <= STATUS.keys()


def test_the_runbook_has_a_word_on_every_alarm():
    told = set(re.findall(r"^\| `(Vidvec\w+)` \|", RUNBOOK.read_text("utf-8"), re.M))
    assert told == {rule["alert"] for rule in ALARMS}
