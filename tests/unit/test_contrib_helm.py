"""The chart: what it renders is what the API and the pods understand."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from shimcore import __version__
from shimcore.config import parse_config
from shimcore.fleet.records import read_wanted
from shimcore.fleet.slots import WIDEST
from shimcore.switch.exchange import Mode

ROOT = Path(__file__).parents[2]
CHART = ROOT / "contrib/helm/image-cri-shim"
MANIFESTS = ROOT / "contrib/kubernetes/fleet"
TOOLS = ROOT / ".ci/tools/helm"
HUB = {"config": {"address": "http://sealos.hub:5000", "auth": "a:b"}}
SETS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "hub": HUB,
    "cluster's part": {
        **HUB,
        "registries": {"version": "v1", "timeout": "15m"},
        "registriesSecret": {"sealos": {"address": "http://sealos.hub:5000"}},
    },
    "everything": {
        **HUB,
        "image": {"repository": "hub:5000/shim", "tag": "9.9.9", "pullPolicy": "Always"},
        "imagePullSecrets": [{"name": "hub"}],
        "mode": "remove",
        "soak": "1h30m",
        "wave": 12.5,
        "nodeSelector": {"kubernetes.io/os": "linux", "shim": "yes"},
        "tolerations": [],
        "priorityClassName": "",
        "hostNetwork": False,
        "apiServer": {"host": "10.0.0.1", "port": 6443},
        "podAnnotations": {"a": "b"},
        "securityContext": {"privileged": True, "seLinuxOptions": {"type": "spc_t"}},
    },
}

pytestmark = pytest.mark.skipif(
    shutil.which("helm") is None and not os.environ.get("CI"), reason="no helm here"
)


def helm(*words: str, values: dict[str, Any] | None = None) -> str:
    done = subprocess.run(
        ["helm", *words, "--values", "-"],
        input=json.dumps(values or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rendered(values: dict[str, Any]) -> list[dict[str, Any]]:
    text = helm("template", "shim", str(CHART), "--namespace", "kube-system", values=values)
    return [tree for tree in yaml.safe_load_all(text) if tree]


def node_file(values: dict[str, Any]) -> dict[str, Any]:
    secret = one(rendered(values), "Secret", "image-cri-shim-node")
    tree: dict[str, Any] = yaml.safe_load(secret["stringData"]["image-cri-shim.yaml"])
    return tree


def one(trees: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    (found,) = [t for t in trees if t["kind"] == kind and t["metadata"]["name"] == name]
    return found


def wish(trees: list[dict[str, Any]]) -> dict[str, str]:
    data: dict[str, str] = one(trees, "ConfigMap", "image-cri-shim-fleet")["data"]
    return data


@cache
def definitions() -> dict[str, Any]:
    """The API's own schemas, from the libraries that helm is built of; unknown keys are faults."""
    folder = subprocess.run(
        ["go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubectl"],
        cwd=TOOLS,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    swagger = json.loads((Path(folder) / "testdata/openapi/swagger.json").read_text())
    found: dict[str, Any] = swagger["definitions"]
    for schema in found.values():
        if "properties" in schema:
            schema["additionalProperties"] = False
    # What JSON has no type for (IntOrString, Quantity).
    for name in ("util.intstr.IntOrString", "api.resource.Quantity"):
        found[f"io.k8s.apimachinery.pkg.{name}"]["type"] = ["string", "number"]
    return found


def schema_of(tree: dict[str, Any]) -> dict[str, Any] | None:
    group, _, version = tree["apiVersion"].rpartition("/")
    for name, schema in definitions().items():
        for kind in schema.get("x-kubernetes-group-version-kind", ()):
            if kind == {"group": group, "version": version, "kind": tree["kind"]}:
                return {"$ref": f"#/definitions/{name}", "definitions": definitions()}
    return None


@pytest.mark.parametrize("name", SETS)
def test_helm_accepts_it(name: str) -> None:
    """`helm lint --strict`, with these values."""
    helm("lint", str(CHART), "--strict", "--namespace", "kube-system", values=SETS[name])


@pytest.mark.skipif(shutil.which("go") is None and not os.environ.get("CI"), reason="no go here")
@pytest.mark.parametrize("name", SETS)
def test_the_api_knows_every_key(name: str) -> None:
    """Each object is as the API's schema has it; those of a newer API are named here."""
    unknown = set()
    for tree in rendered(SETS[name]):
        if tree["kind"] == "Job":
            assert set(tree["spec"].pop("podFailurePolicy")) == {"rules"}
        schema = schema_of(tree)
        if schema is None:
            unknown.add(tree["kind"])
        else:
            jsonschema.Draft4Validator(schema).validate(tree)
    assert unknown <= {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}


@pytest.mark.parametrize("name", SETS)
def test_pods_understand_the_wish(name: str) -> None:
    """What the ConfigMap says is read back as the values; the pods are of its revision."""
    values, trees = SETS[name], rendered(SETS[name])
    wanted = read_wanted(wish(trees))
    assert wanted.mode is Mode(values.get("mode", "install"))
    assert wanted.wave_percent == values.get("wave", 5)
    pod = one(trees, "DaemonSet", "image-cri-shim")["spec"]["template"]["spec"]
    environment = {each["name"]: each.get("value") for each in pod["containers"][0]["env"]}
    assert environment["FLEET_REVISION"] == wanted.revision
    if "config" in values:
        secret = one(trees, "Secret", "image-cri-shim-node")["stringData"]
        assert (wanted.has_node_file, secret["revision"]) == (True, wanted.revision)
        assert yaml.safe_load(secret["image-cri-shim.yaml"]).items() >= values["config"].items()
    else:
        assert not wanted.has_node_file


def test_a_revision_hides_what_it_is_of() -> None:
    """Another password is another revision, which is no plain digest of a text that has it."""
    config = {"address": "http://hub:5000", "auth": "admin:one"}
    first, second = (
        wish(rendered({"config": config | {"auth": f"admin:{word}"}})) for word in ("one", "two")
    )
    assert first["revision"] != second["revision"]
    assert "derivePassword" in (CHART / "templates/_helpers.tpl").read_text()


def test_the_values_of_the_documentation() -> None:
    """Nodes can use the file that they make."""
    text = (ROOT / "docs/fleet.md").read_text()
    documented = yaml.safe_load(text.partition("```yaml\n# values.yaml\n")[2].partition("```")[0])
    commented = (
        (CHART / "values.yaml").read_text().partition("#   config:")[2].partition("\nconfig:")
    )
    example = yaml.safe_load("config:" + commented[0].replace("\n#  ", "\n"))
    for values in (documented, example):
        secret = one(rendered(values), "Secret", "image-cri-shim-node")
        parse_config(secret["stringData"]["image-cri-shim.yaml"], "/etc/image-cri-shim.yaml")


def test_what_is_on_nodes_makes_the_revision() -> None:
    """Pace and place do not; a counter does, for who wants to try again."""
    base = wish(rendered(HUB))["revision"]
    same: list[dict[str, Any]] = [{"soak": "9m"}, {"wave": 50}, {"nodeSelector": {"a": "b"}}]
    other: list[dict[str, Any]] = [
        {"retry": 1},
        {"wireRuntime": False},
        {"mode": "remove"},
        {"image": {"tag": "2"}},
        {"config": {"address": "http://other:5000"}},
        {"registries": {"version": "v1"}},
    ]
    assert {wish(rendered(HUB | each))["revision"] for each in same} == {base}
    found = [wish(rendered(HUB | each))["revision"] for each in other]
    assert len({base, *found}) == len(other) + 1


def test_rights_are_the_least() -> None:
    """A pod changes its slots and the halts by name, labels of nodes, and makes Events."""
    trees = rendered(HUB)
    role = one(trees, "Role", "image-cri-shim-fleet")
    for rule in role["rules"]:
        assert rule["resourceNames"]
        assert not {"list", "watch", "create", "delete"} & set(rule["verbs"])
    leases = role["rules"][2]["resourceNames"]
    made = [t["metadata"]["name"] for t in trees if t["kind"] == "Lease"]
    assert leases == made == [f"image-cri-shim-slot-{slot}" for slot in range(WIDEST)]
    cluster = one(trees, "ClusterRole", "image-cri-shim-fleet")["rules"]
    assert cluster == [
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "patch"]}
    ]
    pod = one(trees, "DaemonSet", "image-cri-shim")["spec"]["template"]["spec"]
    own = pod["containers"][0]["securityContext"]
    assert own["capabilities"] == {"drop": ["ALL"], "add": ["SYS_CHROOT"]}
    assert own["privileged"] is False


def hooked(values: dict[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = one(rendered(values), "Job", "image-cri-shim-remove")["spec"]["template"]
    return pod


def test_the_hook_keeps_off_dead_nodes() -> None:
    """It tolerates control planes and what is named; the pods of nodes tolerate everything."""
    every, named = {"operator": "Exists"}, {"key": "gpu", "operator": "Exists"}
    values = {"tolerations": [every, named]}
    control_planes = {"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}
    assert hooked(values)["spec"]["tolerations"] == [control_planes, named]
    assert hooked({})["spec"]["tolerations"] == [control_planes]
    pods = one(rendered(values), "DaemonSet", "image-cri-shim")["spec"]["template"]["spec"]
    assert pods["tolerations"] == [every, named]


def test_passwords_are_in_secrets_alone() -> None:
    """Wherever values may have one."""
    password = "pa55-zq81"
    values = {
        "config": {"address": "http://h:5000", "auth": f"u:{password}"},
        "registriesSecret": {"sealos": {"auth": {"username": "u", "password": password}}},
    }
    holding = {t["kind"] for t in rendered(values) if password in json.dumps(t)}
    assert holding == {"Secret"}
    assert base64.b64encode(password.encode()).decode() not in json.dumps(rendered(HUB))


@pytest.mark.parametrize(
    "values",
    [
        {"config": {"cri": "unix:///x"}},
        {"wave": 0},
        {"wave": 101},
        {"soak": "2"},
        {"health": "4s"},
        {"health": "121s"},
        {"mode": "upgrade"},
        {"imag": {}},
        {"image": None},
        {"image": {"digest": "sha256:1"}},
        {"wave": None},
        {"soak": None},
        {"mode": None},
        {"health": None},
        {"apiServer": {"port": 0}},
        {"config": {"address": "http://h", "auth": {"username": "u", "password": "p"}}},
        {"config": {"address": "http://h", "auth": 12345}},
        {"config": {"address": "http://h", "registries": [{"auth": 12345}]}},
        {"registriesSecret": {"sealos": {"auth": {"password": 1}}}},
        {"registries": {"auth": {"username": 1}}},
    ],
)
def test_values_that_cannot_be_are_refused(values: dict[str, Any]) -> None:
    """By the schema, before anything reaches the cluster."""
    with pytest.raises(AssertionError, match="values don't meet the specifications"):
        rendered(values)


def test_what_is_left_empty_is_empty() -> None:
    """A key without a value, as one has it whose lines below are comments."""
    names = ("config", "apiServer", "securityContext", "global")
    assert rendered(dict.fromkeys(names)) == rendered({name: {} for name in names})


def test_a_dependency_s_condition_is_no_fault() -> None:
    """`condition: image-cri-shim.enabled` in the parent chart."""
    assert rendered({**HUB, "enabled": True}) == rendered(HUB)


def test_an_image_by_its_digest() -> None:
    """The tag, which names the version, stays."""
    digest = f"sha256:{'0' * 64}"
    trees = rendered({**HUB, "image": {"tag": "1.2.3", "digest": digest}})
    (container,) = one(trees, "DaemonSet", "image-cri-shim")["spec"]["template"]["spec"][
        "containers"
    ]
    assert container["image"] == f"docker.io/library/image-cri-shim:1.2.3@{digest}"


def test_the_chart_is_of_this_version() -> None:
    """Its images are the project's own."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == __version__


def test_manifests_are_in_step(tmp_path: Path) -> None:
    """`make manifests` has been run."""
    subprocess.run([MANIFESTS / "render", tmp_path / "fleet.yaml"], check=True)
    assert (tmp_path / "fleet.yaml").read_text() == (MANIFESTS / "fleet.yaml").read_text()


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl here")
def test_the_overlay_of_the_readme(tmp_path: Path) -> None:
    """Its revision reaches ConfigMap and pods, its file the Secret."""
    text = (MANIFESTS / "README.md").read_text()
    shutil.copytree(MANIFESTS, tmp_path / "fleet")
    block = text.partition("```yaml\n")[2].partition("```")[0]
    (tmp_path / "kustomization.yaml").write_text(block)
    done = subprocess.run(
        ["kubectl", "kustomize", tmp_path], capture_output=True, text=True, check=True
    )
    trees = list(yaml.safe_load_all(done.stdout))
    wanted = read_wanted(wish(trees))
    pod = one(trees, "DaemonSet", "image-cri-shim")["spec"]["template"]["spec"]
    environment = {each["name"]: each.get("value") for each in pod["containers"][0]["env"]}
    assert environment["FLEET_REVISION"] == wanted.revision == "hub-2"
    secret = one(trees, "Secret", "image-cri-shim-node")["stringData"]
    assert secret["image-cri-shim.yaml"].strip() == "address: http://my.hub:5000"
    assert (wanted.has_node_file, secret["revision"]) == (True, "hub-2")


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, {"enabled": True}),
        ({"hosts": ["*.internal"]}, {"enabled": True, "hosts": ["*.internal"]}),
        ({"kubeconfig": "/k"}, {"enabled": True, "kubeconfig": "/k", "namespace": "kube-system"}),
        ({"enabled": False}, {"enabled": False}),
    ],
)
def test_the_clusters_part_is_read_by_the_nodes(
    given: dict[str, Any], wanted: dict[str, Any]
) -> None:
    """Whatever else the nodes' file says of it: what that leaves out is the chart's own."""
    values = {**SETS["cluster's part"], "config": {**HUB["config"], "kubernetes": given}}
    part = node_file(values)["kubernetes"]
    assert {key: part[key] for key in wanted} == wanted
    assert part["namespace"] == "kube-system"
    assert node_file(HUB) == HUB["config"]


def test_a_long_tag_makes_a_label() -> None:
    """Of 63 characters at most, and a letter or a digit at its end (Labels, syntax)."""
    tag = "1.0.0-" + 56 * "a" + "-" + 30 * "b"
    (found,) = {
        tree["metadata"]["labels"]["app.kubernetes.io/version"]
        for tree in rendered({**HUB, "image": {"tag": tag}})
        if "labels" in tree["metadata"]
    }
    assert found == tag[:62]
