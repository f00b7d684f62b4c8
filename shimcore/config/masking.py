"""The configuration in force, for people: YAML's key names, every default, no secret."""

from __future__ import annotations

from typing import Any

from shimcore.config.durations import format_duration
from shimcore.config.model import CacheSettings, Config, KubernetesSource, Registry

_HIDDEN = "***"


def masked(config: Config) -> dict[str, Any]:
    """Text, numbers, lists and mappings only, fit for YAML and JSON; passwords are `***`."""
    hub = config.hub
    return {
        "shim": config.shim_socket,
        "cri": config.runtime_socket,
        "address": hub.address,
        **_auth(hub),
        "offlinePriority": hub.priority,
        "hub": _options(hub),
        "registries": [_registry(one) for one in config.registries if not one.is_hub],
        "force": config.force,
        "debug": config.debug,
        "timeout": format_duration(config.timeout_s),
        "stallTimeout": format_duration(hub.stall_timeout_s),
        "sandboxImage": config.sandbox_image,
        "reloadInterval": format_duration(config.reload_interval_s),
        "probeTimeout": format_duration(config.probe_timeout_s),
        "negativeCacheTTL": format_duration(config.negative_cache_ttl_s),
        "exclude": list(config.exclude),
        "fallback": config.fallback.value,
        "names": config.names.value,
        "admin": config.admin_socket,
        "stateDir": config.state_dir,
        "metrics": config.metrics,
        "cache": _cache(config.cache),
        "kubernetes": _kubernetes(config.kubernetes),
    }


def _kubernetes(source: KubernetesSource) -> dict[str, Any]:
    return {
        "enabled": source.enabled,
        "kubeconfig": source.kubeconfig,
        "namespace": source.namespace,
        "name": source.name,
    }


def _registry(registry: Registry) -> dict[str, Any]:
    return {
        "address": registry.address,
        **_auth(registry),
        "priority": registry.priority,
        **_options(registry),
    }


def _auth(registry: Registry) -> dict[str, str]:
    if registry.credentials is None or registry.credentials_source != "auth":
        return {}
    return {"auth": f"{registry.credentials.username}:{_HIDDEN}"}


def _options(registry: Registry) -> dict[str, Any]:
    options: dict[str, Any] = {
        "insecureSkipVerify": registry.insecure_skip_verify,
        "path": registry.mirror.path_template,
        "stallTimeout": format_duration(registry.stall_timeout_s),
    }
    for key, file in (
        ("caFile", registry.ca_file),
        ("passwordFile", registry.password_file),
        ("dockerConfig", registry.docker_config),
    ):
        if file is not None:
            options[key] = file
    if registry.mirror.domains is not None:
        options["domains"] = sorted(registry.mirror.domains)
    return options


def _cache(cache: CacheSettings) -> dict[str, Any]:
    return {
        "imageCacheSize": cache.size,
        "imageCacheTTL": format_duration(cache.ttl_s),
        "domainCacheTTL": format_duration(cache.domain_ttl_s),
        "statsLogInterval": format_duration(cache.stats_interval_s),
        "disableStats": not cache.stats,
    }
