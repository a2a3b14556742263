"""What every manifest must keep, whoever changes the chart: a list of sentences, empty if all is well."""


def problems_of(documents):
    problems = []
    pods = {}
    for document in documents:
        name = f"{document['kind']} {document['metadata']['name']}"
        if document["kind"] in ("Deployment", "StatefulSet"):
            template = document["spec"]["template"]
            pods[name] = template["metadata"]["labels"]
            problems += [f"{name}: {problem}" for problem in of_pod(template["spec"])]
    for kind in ("NetworkPolicy", "PodDisruptionBudget"):
        chosen = [labels_of(document["spec"], kind) for document in documents if document["kind"] == kind]
        for name, labels in pods.items():
            if kind == "PodDisruptionBudget" and name.startswith("StatefulSet"):
                continue
            if not any(choice.items() <= labels.items() for choice in chosen):
                problems.append(f"{name}: no {kind} is for it")
    for document in documents:
        if document["kind"] == "Service":
            selector = document["spec"]["selector"]
            if not any(selector.items() <= labels.items() for labels in pods.values()):
                problems.append(f"Service {document['metadata']['name']}: it selects no pod")
        if document["kind"] == "NetworkPolicy" and document["metadata"]["name"].endswith("gateway"):
            ports = [port["port"] for rule in document["spec"]["egress"] for port in rule.get("ports", [])]
            if 6379 in ports:
                problems.append("NetworkPolicy of the gateway: it may reach Redis")
    return problems


def labels_of(spec, kind):
    selector = spec["podSelector" if kind == "NetworkPolicy" else "selector"]
    return selector.get("matchLabels", {})


def of_pod(pod):
    """The Pod Security Standard `restricted`, and what Waystation asks beyond it."""
    if pod.get("automountServiceAccountToken") is not False:
        yield "its pods get a token of Kubernetes"
    whole = pod.get("securityContext", {})
    if whole.get("runAsNonRoot") is not True or whole.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "its pods may run as root, or without seccomp"
    for volume in pod.get("volumes", []):
        if not {"configMap", "secret", "emptyDir", "projected"} & volume.keys():
            yield f"volume {volume['name']}: of a kind that is not allowed"
    for container in pod["containers"]:
        own = container.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False or own.get("capabilities", {}).get("drop") != ["ALL"]:
            yield f"{container['name']}: may gain privileges"
        if own.get("readOnlyRootFilesystem") is not True:
            yield f"{container['name']}: its file system can be written"
        if not {"cpu", "memory"} <= container["resources"].get("requests", {}).keys() or "memory" not in container["resources"].get("limits", {}):
            yield f"{container['name']}: without requests, or without a limit of memory"
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if probe not in container:
                yield f"{container['name']}: has no {probe}"
        mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
        for volume in pod.get("volumes", []):
            if volume["name"] not in mounted:
                yield f"volume {volume['name']}: nobody mounts it"
    sleep = max((container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0) for container in pod["containers"]), default=0)
    if sleep and pod["terminationGracePeriodSeconds"] < sleep + 30:
        yield "it is killed before it has stopped"
