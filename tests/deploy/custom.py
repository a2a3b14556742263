"""Resources of others' operators, held against models that were made from those operators' definitions."""

from cloudcoil.models.cert_manager.v1 import Certificate
from cloudcoil.models.prometheus_operator.v1 import PrometheusRule, ServiceMonitor
from pydantic import ValidationError

MODELS = {
    ("cert-manager.io/v1", "Certificate"): Certificate,
    ("monitoring.coreos.com/v1", "PrometheusRule"): PrometheusRule,
    ("monitoring.coreos.com/v1", "ServiceMonitor"): ServiceMonitor,
}
# Of these the Python package index has no models.
UNJUDGED = {("gateway.networking.k8s.io/v1", "HTTPRoute")}


def missing(given, kept, path=""):
    """What the model does not know of is not there any more."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for key, value in given.items():
            if key not in kept:
                yield f"{path}.{key} is not known"
            else:
                yield from missing(value, kept[key], f"{path}.{key}")
    elif isinstance(given, list) and isinstance(kept, list):
        for index, (value, same) in enumerate(zip(given, kept)):
            yield from missing(value, same, f"{path}[{index}]")


def problems_of_custom(document):
    kind = (document["apiVersion"], document["kind"])
    if kind in UNJUDGED:
        return []
    if kind not in MODELS:
        return ["nobody knows such a resource"]
    try:
        read = MODELS[kind].model_validate(document)
    except ValidationError as error:
        return [f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()]
    return list(missing(document, read.model_dump(mode="json", by_alias=True, exclude_unset=True)))


def prove():
    """A judge that finds nothing proves nothing."""
    endpoint = {"port": "admin", "intervall": "15s"}
    wrong = {"apiVersion": "monitoring.coreos.com/v1", "kind": "ServiceMonitor", "metadata": {"name": "x"}, "spec": {"selector": {}, "endpoints": [endpoint]}}
    return problems_of_custom(wrong) == [".spec.endpoints[0].intervall is not known"] and problems_of_custom({**wrong, "spec": {}})
