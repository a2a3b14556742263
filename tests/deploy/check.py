"""Renders, lints and validates what deploy/ holds.

    check.py [--write] FOLDER

FOLDER gets the services' configurations from what was rendered (<values>/<service>.toml), and their environments in Compose
(compose/<service>.env), for those who check them further. --write renews deploy/kustomize/base. Ends with 1 if anything is wrong, and says all of it.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import yaml
from helm_python.chart import Chart, lint
from helm_python.errors import HelmError
from kubernetes_validate import SchemaNotFoundError, ValidationError, validate

from custom import problems_of_custom, prove
from rules import problems_of
from wrong_values import WRONG

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
CHART = DEPLOY / "helm/waystation"
BASE = DEPLOY / "kustomize/base/waystation.yaml"
# The oldest that is promised, and a current one.
VERSIONS = ["1.32", "1.37"]
WARNING = 2

PAGE = (DEPLOY.parent / "docs/operations.md").read_text()
METRICS = {name for row in re.findall(r"^\| `(waystation_\w+)", PAGE, re.MULTILINE) for name in (row, f"{row}_bucket")}

problems = []


def wrong(where, what):
    problems.append(f"{where}: {what}")


def render(values, namespace="waystation"):
    with Chart.load(CHART) as chart:
        chart.validate_schema(values)
        return chart.render(values, name="waystation", namespace=namespace)


def documents(manifests):
    for path, text in sorted(manifests.items()):
        if path.endswith(".yaml"):
            yield from (document for document in yaml.safe_load_all(text) if document)


def check_values(name, values, folder):
    report = lint(CHART, values, strict=True, quiet=True, kube_version="v1.32.0")
    for message in report["messages"]:
        if message["severity"] >= WARNING:
            wrong(name, f"lint: {message['path']}: {message['error']}")
    rendered = list(documents(render(values)))
    for document in rendered:
        which = f"{name}: {document['kind']} {document['metadata']['name']}"
        for version in VERSIONS:
            try:
                validate(document, version, strict=True)
            except ValidationError as error:
                wrong(which, f"{version}: {'.'.join(map(str, error.path))}: {error.message}")
            except SchemaNotFoundError:
                # Not a part of Kubernetes.
                for problem in problems_of_custom(document):
                    wrong(which, problem)
                break
        if document["kind"] == "ConfigMap":
            for file, text in document["data"].items():
                if not file.endswith(".toml"):
                    continue
                target = folder / name / file
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text)
    for problem in problems_of(rendered):
        wrong(name, problem)
    return rendered


def check_wrong_values(plain):
    for values, words in WRONG:
        merged = merge(plain, values)
        try:
            render(merged)
            wrong(f"{values}", "is accepted")
        except HelmError as error:
            if words not in str(error):
                wrong(f"{values}", f"is refused without the words '{words}': {error}")


def merge(base, over):
    if not isinstance(base, dict) or not isinstance(over, dict):
        return over
    return {key: merge(base[key], over[key]) if key in base and key in over else over.get(key, base.get(key)) for key in {**base, **over}}


def check_base(rendered, write):
    """The base has no namespace: whoever uses it names one."""
    for document in rendered:
        document["metadata"].pop("namespace", None)
        for labels in [document["metadata"]["labels"], pod_labels(document)]:
            labels.pop("app.kubernetes.io/managed-by", None)
            labels.pop("helm.sh/chart", None)
    head = "# Rendered from deploy/helm/waystation with ci/plain.yaml; `make check` tells when it is old, `make base` renews it.\n"
    text = head + yaml.safe_dump_all(rendered, sort_keys=False, width=120)
    if write:
        BASE.write_text(text)
    elif not BASE.exists() or BASE.read_text() != text:
        wrong(BASE.name, "is not what the chart renders; run make base")


def pod_labels(document):
    return document.get("spec", {}).get("template", {}).get("metadata", {}).get("labels", {})


def check_with(*command):
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode:
        wrong(command[0], (ran.stdout + ran.stderr).strip())


def check_alerts(rendered):
    """promtool judges the rules; every alert has a section of its own, and every metric of theirs is one of ours."""
    rules = DEPLOY / "alerts/waystation.yaml"
    check_with("promtool", "check", "rules", str(rules))
    check_with("promtool", "test", "rules", str(DEPLOY / "alerts/tests.yaml"))
    groups = yaml.safe_load(rules.read_text())["groups"]
    for rule in (rule for group in groups for rule in group["rules"]):
        if f"\n### {rule['alert']}\n" not in PAGE or not rule["annotations"]["runbook"].endswith("#" + rule["alert"].lower()):
            wrong(rule["alert"], "docs/operations.md has no section for it")
        check_metrics(rule["alert"], rule["expr"])
    if not any(document["kind"] == "PrometheusRule" and document["spec"]["groups"] == groups for document in rendered):
        wrong("full", "the chart's PrometheusRule is not deploy/alerts/waystation.yaml")


def check_metrics(where, expression):
    for metric in set(re.findall(r"waystation_\w+", expression)) - METRICS:
        wrong(where, f"{metric} is not a metric that docs/operations.md has")


def check_dashboards(rendered, folder):
    """Prometheus understands every query, and every metric of theirs is one of ours."""
    paths = sorted((DEPLOY / "dashboards").glob("*.json"))
    boards = [json.loads(path.read_text()) for path in paths]
    queries = [(board["title"], target["expr"]) for board in boards for panel in board["panels"] for target in panel["targets"]]
    for title, query in queries:
        check_metrics(title, query)
    rules = [{"record": f"query:{number}", "expr": query.replace("$__rate_interval", "5m")} for number, (_, query) in enumerate(queries)]
    judged = folder / "queries.yaml"
    judged.write_text(yaml.safe_dump({"groups": [{"name": "dashboards", "rules": rules}]}))
    check_with("promtool", "check", "rules", str(judged))
    shown = [json.loads(text) for document in rendered if document["kind"] == "ConfigMap" for file, text in document["data"].items() if file.endswith(".json")]
    if len(boards) < 5 or sorted(board["uid"] for board in shown) != sorted(board["uid"] for board in boards):
        wrong("full", "the chart's ConfigMaps are not deploy/dashboards")


def write_environments(compose, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, service in compose["services"].items():
        if service["image"].startswith("waystation-"):
            (folder / f"{name}.env").write_text("".join(f"{key}={value}\n" for key, value in service["environment"].items()))


def main():
    write = "--write" in sys.argv
    folder = Path([argument for argument in sys.argv[1:] if not argument.startswith("-")][0])
    all_values = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((CHART / "ci").glob("*.yaml"))}
    for name, values in all_values.items():
        rendered = check_values(name, values, folder)
        if name == "plain":
            check_base(rendered, write)
        if name == "full":
            check_alerts(rendered)
            check_dashboards(rendered, folder)
    if not prove():
        wrong("custom.py", "finds nothing in a resource that is wrong")
    check_wrong_values(all_values["plain"])
    check_with("hadolint", str(DEPLOY / "docker/Dockerfile"))
    compose = DEPLOY / "compose/compose.yaml"
    check_with("check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(compose))
    write_environments(yaml.safe_load(compose.read_text()), folder / "compose")
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"deploy: {len(all_values)} sets of values, {len(WRONG)} wrong ones, Kubernetes {' and '.join(VERSIONS)}: {len(problems)} problems")
    sys.exit(1 if problems else 0)


main()
