"""What `docker run` needs to run the container of a pod. A field without a counterpart there is an error, unless it is one
of those that only a cluster can carry out."""

from .engine import Failure

# Only a cluster has them: accounts, the distribution over nodes, the order of starts, the rights of volumes.
ONLY_IN_A_CLUSTER = {
    "serviceAccountName",
    "automountServiceAccountToken",
    "enableServiceLinks",
    "topologySpreadConstraints",
    "fsGroup",
    "fsGroupChangePolicy",
    "imagePullPolicy",
}
# Read by pods.py.
PROBES = {"startupProbe", "livenessProbe", "readinessProbe"}
LIFE = {"terminationGracePeriodSeconds", "lifecycle", *PROBES}
UNITS = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}


def docker_options(workload, secrets, volumes):
    """Options, image and arguments for the only container of a Deployment or StatefulSet.

    `secrets` has the keys of Secrets: {name: {key: value}}. `volumes` has the Docker volumes that take the place of claims and
    of templates of claims: {name: volume}.
    """
    pod = workload["spec"]["template"]["spec"]
    [one] = pod["containers"]
    only(pod, {"containers", "volumes", "securityContext"} | LIFE | ONLY_IN_A_CLUSTER)
    only(one, {"name", "image", "args", "env", "envFrom", "ports", "resources", "securityContext", "volumeMounts"} | LIFE | ONLY_IN_A_CLUSTER)
    options = [
        *security(context(workload, one)),
        *limits(one["resources"]["limits"]),
        *(f"--env={name}={value}" for name, value in variables(one, secrets)),
        *mounts(workload, one, volumes),
    ]
    return options, one["image"], one["args"]


def context(workload, one):
    """The container's security context, which has the pod's where it has none of its own."""
    return {**workload["spec"]["template"]["spec"]["securityContext"], **one["securityContext"]}


def security(context):
    only(context, {"runAsNonRoot", "runAsUser", "runAsGroup", "readOnlyRootFilesystem", "capabilities"}
         | {"allowPrivilegeEscalation", "seccompProfile"} | ONLY_IN_A_CLUSTER)
    # RuntimeDefault: the engine's profile, which it uses by default.
    if context["seccompProfile"] != {"type": "RuntimeDefault"} or (context["runAsNonRoot"] and context["runAsUser"] == 0):
        raise Failure(f"cannot be run: {context}")
    yield f"--user={context['runAsUser']}:{context['runAsGroup']}"
    if context["readOnlyRootFilesystem"]:
        yield "--read-only"
    if not context["allowPrivilegeEscalation"]:
        yield "--security-opt=no-new-privileges"
    only(context["capabilities"], {"drop"})
    yield from (f"--cap-drop={name}" for name in context["capabilities"]["drop"])


def limits(bounds):
    only(bounds, {"cpu", "memory"})
    yield f"--cpus={bounds['cpu']}"
    yield f"--memory={size(bounds['memory'])}"


def variables(one, secrets):
    """Names and values, those of `env` last, as they win."""
    for source in one.get("envFrom", []):
        only(source, {"secretRef"})
        yield from secrets[source["secretRef"]["name"]].items()
    for variable in one["env"]:
        only(variable, {"name", "value"})
        yield variable["name"], variable["value"]


def mounts(workload, one, volumes):
    sources = {volume["name"]: volume for volume in workload["spec"]["template"]["spec"].get("volumes", [])}
    templates = [template["metadata"]["name"] for template in workload["spec"].get("volumeClaimTemplates", [])]
    for mount in one["volumeMounts"]:
        # A Docker volume has no folder lost+found, so it takes the place of a folder in a claim (subPath).
        only(mount, {"name", "mountPath", "readOnly", "subPath"})
        name, path = mount["name"], mount["mountPath"]
        if name in templates:
            yield f"--volume={volumes[name]}:{path}"
            continue
        only(sources[name], {"name", "emptyDir", "persistentVolumeClaim"})
        if (empty := sources[name].get("emptyDir")) is not None:
            only(empty, {"sizeLimit"})
            # Like the folder of an emptyDir, every user may write. Where the image has a folder, Docker gives the mount that
            # folder's mode, so the mount also gets the container's user.
            owner = "uid={runAsUser},gid={runAsGroup}".format_map(context(workload, one))
            yield f"--tmpfs={path}:mode=1777,{owner},size={size(empty['sizeLimit'])}"
        else:
            volume = volumes[sources[name]["persistentVolumeClaim"]["claimName"]]
            yield f"--volume={volume}:{path}{':ro' if mount.get('readOnly') else ''}"


def size(quantity):
    """Bytes."""
    return int(quantity[:-2]) * UNITS[quantity[-2:]]


def only(fields, known):
    if unknown := fields.keys() - known:
        raise Failure(f"this check cannot carry out {', '.join(sorted(unknown))}: add it to {__name__}")
