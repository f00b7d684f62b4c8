"""containerd's registry configuration, as the sources of 1.6 and 2.4 read it."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from shimcore.errors import ShimError
from shimcore.runtime.containerd.release import Release, release_in, release_of
from shimcore.runtime.containerd.route import Reason, Route, Verdict, Wanted, judge, route
from shimcore.runtime.containerd.settings import (
    DEFAULT_CONFIG_PATH,
    DEFAULT_FILE,
    RegistrySettings,
    read_settings,
)

HUB = "sealos.hub:5000"
V2 = 'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\n'
V3 = "version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\n"
CERTS = "/etc/containerd/certs.d"
FOLDER = f"{CERTS}/{HUB}"
WITH_PATH = V2 + f'config_path = "{CERTS}"\n'
PLAIN = Wanted("http", HUB)
IMPORTS = 'imports = ["conf.d/*.toml"]\n'
PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


class Disk:
    """Files by path."""

    def __init__(self, files: dict[str, str]) -> None:
        self.files = files

    def text(self, path: str) -> str | None:
        return self.files.get(path)

    def names(self, path: str) -> Iterable[str]:
        top = path.rstrip("/") + "/"
        return sorted(
            {each[len(top) :].partition("/")[0] for each in self.files if each.startswith(top)}
        )

    def exists(self, path: str) -> bool:
        return path in self.files or bool(self.names(path))


def settings_of(files: dict[str, str], release: Release = Release.V1) -> RegistrySettings:
    return read_settings(Disk(files), DEFAULT_FILE, release)


def _versioned(version: int, text: str) -> str:
    return f"version = {version}\n{text}" if version else text


def way(files: dict[str, str], host: str = HUB, release: Release = Release.V1) -> Route:
    disk = Disk(files)
    return route(disk, read_settings(disk, DEFAULT_FILE, release), host)


def verdict(
    files: dict[str, str], wanted: Wanted = PLAIN, release: Release = Release.V1
) -> Verdict:
    return judge(Disk(files), way(files, wanted.host, release), wanted)


class TestRelease:
    @pytest.mark.parametrize(
        ("version", "release"),
        [
            ("1.6.20~ds1", Release.V1),
            ("v1.7.23-k3s2", Release.V1),
            ("2.0.4", Release.V2_0),
            ("v2.1.0", Release.V2_1),
            ("2.2.1", Release.V2_1),
            ("2.4.2", Release.V2_3),
            ("unknown", Release.V1),
        ],
    )
    def test_by_the_version(self, version: str, release: Release) -> None:
        """As CRI's Version tells it."""
        assert release_of(version) is release

    def test_by_the_program(self) -> None:
        """The names of plugins and keys stand in it."""
        assert release_in(b"..io.containerd.grpc.v1.cri..") is Release.V1
        assert release_in(b"..io.containerd.cri.v1.images..") is Release.V2_0
        text = b"..io.containerd.cri.v1.images..use_local_image_pull"
        assert release_in(text) is Release.V2_1
        assert release_in(text + b"..io.containerd.server.v1.grpc") is Release.V2_3


class TestSettings:
    @pytest.mark.parametrize(
        ("text", "release"),
        [
            (f'[plugins.cri.registry]\nconfig_path = "{CERTS}"\n', Release.V1),
            (WITH_PATH, Release.V1),
            (WITH_PATH, Release.V2_1),
            (V3 + f"config_path = '{CERTS}'\n", Release.V2_1),
        ],
    )
    def test_config_path_by_version(self, text: str, release: Release) -> None:
        """Each version of the file has its own section."""
        settings = settings_of({DEFAULT_FILE: text}, release)
        assert settings.directories == (CERTS,)
        assert settings.section_file == DEFAULT_FILE

    def test_without_a_file(self) -> None:
        """1.x looks nowhere, 2.x in a directory that cannot be there."""
        assert settings_of({}).directories == ()
        settings = settings_of({}, Release.V2_1)
        assert (settings.given_config_path, settings.config_path) == ("", DEFAULT_CONFIG_PATH)
        assert settings.is_list_taken_as_one
        assert settings.directories == (DEFAULT_CONFIG_PATH,)
        assert settings_of({}, Release.V2_0).directories == (CERTS, "/etc/docker/certs.d")

    def test_a_list_where_the_plugin_pulls_itself(self) -> None:
        """`use_local_image_pull` and what makes containerd fall back to it."""
        text = "version = 3\n[plugins.'io.containerd.cri.v1.images']\n"
        for line in ("use_local_image_pull = true", "max_concurrent_downloads = 5"):
            settings = settings_of({DEFAULT_FILE: f"{text}{line}\n"}, Release.V2_1)
            assert settings.directories == (CERTS, "/etc/docker/certs.d")

    def test_inline(self) -> None:
        """Mirrors and TLS, with which config_path may not stand."""
        text = (
            V2
            + '[plugins."io.containerd.grpc.v1.cri".registry.mirrors."a.b"]\nendpoint = ["http://a.b"]\n'
            + '[plugins."io.containerd.grpc.v1.cri".registry.configs."c.d".tls]\nca_file = "/x"\n'
        )
        settings = settings_of({DEFAULT_FILE: text})
        assert settings.is_inline
        assert settings.mirrors == {"a.b": ("http://a.b",)}
        assert settings.tls["c.d"].ca_file == "/x"
        assert settings.section_file == DEFAULT_FILE

    def test_inline_authorities_of_2(self) -> None:
        """2.x does not know them, and takes config_path beside them."""
        table = V2 + '[plugins."io.containerd.grpc.v1.cri".registry.configs."c.d".tls]\n'
        assert not settings_of({DEFAULT_FILE: table + 'ca_file = "/x"\n'}, Release.V2_0).is_inline

    def test_an_empty_table_is_not_inline(self) -> None:
        """`containerd config default` writes empty ones."""
        text = V2 + '[plugins."io.containerd.grpc.v1.cri".registry.mirrors]\n'
        assert not settings_of({DEFAULT_FILE: text}).is_inline

    @pytest.mark.parametrize("release", [Release.V1, Release.V2_1])
    def test_imports(self, release: Release) -> None:
        """Globs, relative paths; in 1.x an import replaces the plugin's whole section."""
        more = V2.replace(".registry", "") + 'sandbox_image = "x"\n'
        files = {
            DEFAULT_FILE: 'imports = ["conf.d/*.toml"]\n' + WITH_PATH,
            "/etc/containerd/conf.d/a.toml": more,
            "/etc/containerd/conf.d/b.txt": "no toml",
        }
        settings = settings_of(files, release)
        assert settings.files == (DEFAULT_FILE, "/etc/containerd/conf.d/a.toml")
        assert settings.given_config_path == ("" if release is Release.V1 else CERTS)

    def test_a_circle(self) -> None:
        """Each file is read once."""
        files = {DEFAULT_FILE: f'imports = ["{DEFAULT_FILE}"]\n' + WITH_PATH}
        assert settings_of(files).directories == (CERTS,)

    def test_an_older_section(self) -> None:
        """2.3 moves it, up to version 3; before that nobody reads it."""
        text = WITH_PATH.replace("version = 2", "version = 3")
        settings = settings_of({DEFAULT_FILE: text}, Release.V2_1)
        assert (settings.given_config_path, settings.config_path) == ("", DEFAULT_CONFIG_PATH)
        assert settings_of({DEFAULT_FILE: text}, Release.V2_3).given_config_path == CERTS
        text = text.replace("version = 3", "version = 4")
        assert settings_of({DEFAULT_FILE: text}, Release.V2_3).given_config_path == ""

    @pytest.mark.parametrize("text", ["[", 'imports = ["/not/there.toml"]\n'])
    def test_what_containerd_cannot_start_with(self, text: str) -> None:
        """The file is named."""
        with pytest.raises(ShimError, match=r"config\.toml"):
            settings_of({DEFAULT_FILE: text})


SECTIONS = {
    "1": "cri",
    "2": "io.containerd.grpc.v1.cri",
    "3": "io.containerd.cri.v1.images",
}
DROP_IN = "/etc/containerd/conf.d/a.toml"
# What containerd does with an imported file whose version is none, 1, 2, 3, by its release and the
# version of the file that imports it: of which of SECTIONS registries are read there, and beside
# which of them, with a runtime in it, the importing file's own config_path (of `grpc.v1.cri` in
# version 2, of `cri.v1.images` in version 3) counts on. Seen on 1.6.20, 1.7.29, 2.0.5, 2.1.4 and
# 2.4.2, by `config dump` and at their start. 1.x does not start with `cri` where 2 is the version
# of the whole, nor 1.7 with 3.
IMPORTED = [
    (Release.V1, 2, ("2", "1", "2", "2"), ("3", "", "3", "3")),
    (Release.V1, 3, ("2", "1", "2", "2"), ("", "", "", "")),
    (Release.V2_0, 2, ("123", "123", "23", "3"), ("123", "123", "123", "")),
    (Release.V2_0, 3, ("3", "3", "23", "3"), ("123", "123", "123", "123")),
    (Release.V2_1, 2, ("123", "123", "23", "3"), ("123", "123", "123", "")),
    (Release.V2_1, 3, ("3", "3", "23", "3"), ("123", "123", "123", "123")),
    (Release.V2_3, 2, ("123", "123", "23", "23"), ("123", "123", "123", "123")),
    (Release.V2_3, 3, ("123", "123", "23", "23"), ("123", "123", "123", "123")),
]


class TestImported:
    """A file that is imported, with a version of its own or none."""

    @pytest.mark.parametrize(("release", "version", "read", "_"), IMPORTED)
    @pytest.mark.parametrize("own", [0, 1, 2, 3])
    def test_what_is_read_of_it(
        self, release: Release, version: int, read: tuple[str, ...], _: object, own: int
    ) -> None:
        """Its config_path, and its mirrors; such a file and section is where more is added."""
        for number, section in SECTIONS.items():
            for text in (
                f'config_path = "{CERTS}"\n',
                f'mirrors."{HUB}".endpoint = ["http://m"]\n',
            ):
                drop_in = _versioned(own, f'[plugins."{section}".registry]\n{text}')
                files = {DEFAULT_FILE: _versioned(version, IMPORTS), DROP_IN: drop_in}
                if release.is_v1 and number == "1" and number not in read[own]:
                    with pytest.raises(ShimError, match="does not start"):
                        settings_of(files, release)
                    continue
                settings = settings_of(files, release)
                is_read = bool(settings.given_config_path or settings.is_inline)
                assert is_read is (number in read[own])
                if is_read:
                    assert (settings.section_file, settings.section) == (DROP_IN, section)

    @pytest.mark.parametrize(("release", "version", "read", "kept"), IMPORTED)
    @pytest.mark.parametrize("own", [0, 1, 2, 3])
    def test_what_it_leaves_of_the_other(
        self, release: Release, version: int, read: tuple[str, ...], kept: tuple[str, ...], own: int
    ) -> None:
        """Where that is nothing, config_path counts once it is written to where it is said."""
        for number, section in SECTIONS.items():
            if release.is_v1 and number == "1" and number not in read[own]:
                continue  # as above
            registry = f'[plugins."{SECTIONS[str(version)]}".registry]\nconfig_path = "{CERTS}"\n'
            runtime = f'[plugins."{section}".containerd.runtimes.nvidia]\nruntime_type = "n"\n'
            files = {
                DEFAULT_FILE: _versioned(version, IMPORTS + registry),
                DROP_IN: _versioned(own, runtime),
            }
            settings = settings_of(files, release)
            assert bool(settings.given_config_path) is (number in kept[own])
            more = f'[plugins."{settings.section}".registry]\nconfig_path = "/more"\n'
            if settings.section_file == DEFAULT_FILE and f'"{settings.section}"' in registry:
                files[DEFAULT_FILE] = files[DEFAULT_FILE].replace(CERTS, "/more")
            else:
                files[settings.section_file] += more
            assert settings_of(files, release).given_config_path == "/more"

    @pytest.mark.parametrize("release", [Release.V2_0, Release.V2_1, Release.V2_3])
    def test_the_older_section_wins(self, release: Release) -> None:
        """Where both have registries, those of `grpc.v1.cri` take the place of the others."""
        newer = V3.partition("\n")[2] + f'config_path = "{CERTS}"\n'
        settings = settings_of({DEFAULT_FILE: V2 + 'headers.a = ["b"]\n' + newer}, release)
        assert (settings.given_config_path, settings.section) == ("", SECTIONS["2"])

    @pytest.mark.parametrize("release", [Release.V2_0, Release.V2_1])
    def test_version_1_of_the_whole(self, release: Release) -> None:
        """Before 2.3 its plugins are only given their new names, which version 3 does not read."""
        text = f'[plugins.cri.registry]\nconfig_path = "{CERTS}"\n'
        settings = settings_of({DEFAULT_FILE: text}, release)
        assert (settings.given_config_path, settings.section) == ("", SECTIONS["3"])
        assert settings_of({DEFAULT_FILE: text}, Release.V2_3).given_config_path == CERTS


class TestRoute:
    def test_nothing_is_set(self) -> None:
        """https by itself, and the reason by release."""
        assert way({}).reason is Reason.NO_CONFIG_PATH
        assert way({}, release=Release.V2_1).reason is Reason.LIST_AS_ONE
        assert way({DEFAULT_FILE: WITH_PATH}).reason is Reason.NO_FOLDER
        assert [each.url for each in way({}).endpoints] == [f"https://{HUB}"]
        assert verdict({}) is Verdict.HTTPS_FOR_HTTP

    def test_a_complete_hosts_file(self) -> None:
        """The tables in order, then the server."""
        text = (
            'server = "https://up.example/base"\n'
            f'[host."http://{HUB}"]\ncapabilities = ["pull", "resolve"]\n'
            '[host."mirror.example"]\nca = ["m.crt", "/n.crt"]\nskip_verify = false\n'
        )
        found = way({DEFAULT_FILE: WITH_PATH, f"{FOLDER}/hosts.toml": text})
        assert (found.reason, found.file) == (Reason.HOSTS_FILE, f"{FOLDER}/hosts.toml")
        urls = [f"http://{HUB}", "https://mirror.example", "https://up.example"]
        assert [each.url for each in found.endpoints] == urls
        assert [each.path for each in found.endpoints] == ["/v2", "/v2", "/base/v2"]
        assert found.endpoints[1].ca_files == (f"{FOLDER}/m.crt", "/n.crt")
        assert found.endpoints[1].skip_verify is False

    def test_only_a_server(self) -> None:
        """1.x refuses it and asks by https; 2.x takes it."""
        files = {DEFAULT_FILE: WITH_PATH, f"{FOLDER}/hosts.toml": f'server = "http://{HUB}"\n'}
        assert way(files).reason is Reason.REFUSED_HOSTS_FILE
        assert verdict(files) is Verdict.HTTPS_FOR_HTTP
        assert verdict(files, release=Release.V2_1) is Verdict.FITS

    @pytest.mark.parametrize(
        "text",
        [
            "[",
            '[host."http://h"]\ncapabilities = ["pul"]\n',
            '[host."http://h"]\nca = 3\n',
            "host=1",
        ],
    )
    def test_a_file_that_containerd_refuses(self, text: str) -> None:
        """Only the certificates beside it count."""
        files = {DEFAULT_FILE: WITH_PATH, f"{FOLDER}/hosts.toml": text, f"{FOLDER}/ca.crt": PEM}
        found = way(files)
        assert found.reason is Reason.REFUSED_HOSTS_FILE
        assert found.fault
        assert found.endpoints[0].ca_files == (f"{FOLDER}/ca.crt",)

    @pytest.mark.parametrize("folder", ["sealos.hub_5000_", HUB, "_default"])
    def test_folders(self, folder: str) -> None:
        """The port may be written without a colon; `_default` is for all others."""
        text = f'[host."http://{HUB}"]\n'
        found = way({DEFAULT_FILE: WITH_PATH, f"{CERTS}/{folder}/hosts.toml": text})
        assert found.endpoints[0].scheme == "http"
        assert f"/{folder}/" in found.file

    def test_only_certificates(self) -> None:
        """As docker has them."""
        files = {DEFAULT_FILE: WITH_PATH, f"{FOLDER}/ca.crt": PEM}
        assert way(files).reason is Reason.CERTIFICATES
        assert verdict(files, Wanted("https", HUB, PEM)) is Verdict.FITS

    def test_inline(self) -> None:
        """The mirror's scheme, and the default at the end unless it is listed."""
        table = 'plugins."io.containerd.grpc.v1.cri".registry'
        text = (
            V2
            + f'[{table}.mirrors."{HUB}"]\nendpoint = ["http://{HUB}"]\n'
            + f'[{table}.mirrors."*"]\nendpoint = ["m.example"]\n'
            + f'[{table}.configs."o.example".tls]\ninsecure_skip_verify = true\n'
        )
        files = {DEFAULT_FILE: text}
        assert way(files).reason is Reason.INLINE
        assert verdict(files) is Verdict.FITS
        urls = [each.url for each in way(files, "o.example").endpoints]
        assert urls == ["https://m.example", "https://o.example"]
        assert verdict(files, Wanted("https", "o.example", skip_verify=True)) is Verdict.FITS

    @pytest.mark.parametrize(
        "host", ["127.0.0.1:5000", "localhost:5000", "[::1]:5000", "[::ffff:7f00:1]:5000"]
    )
    def test_addresses_of_the_node(self, host: str) -> None:
        """containerd tries both schemes there, unverified."""
        assert way({}, host).reason is Reason.LOOPBACK
        for wanted in (Wanted("http", host), Wanted("https", host, PEM)):
            assert verdict({}, wanted) is Verdict.FITS

    def test_docker_hub(self) -> None:
        """Its server has another name."""
        assert way({}, "docker.io").endpoints[0].url == "https://registry-1.docker.io"
        assert verdict({}, Wanted("https", "docker.io")) is Verdict.FITS


class TestVerdict:
    @pytest.mark.parametrize(
        ("table", "wanted", "verdict_"),
        [
            (f'[host."https://{HUB}"]', PLAIN, Verdict.HTTPS_FOR_HTTP),
            (f'[host."http://{HUB}"]', Wanted("https", HUB), Verdict.FITS),  # the server is asked
            (f'[host."https://{HUB}"]', Wanted("https", HUB, PEM), Verdict.CA_MISSING),
            (f'[host."https://{HUB}"]\nca = "/ca.pem"', Wanted("https", HUB, PEM), Verdict.FITS),
            (f'[host."https://{HUB}"]', Wanted("https", HUB, "", True), Verdict.VERIFIES),
            (
                f'[host."https://{HUB}"]\nskip_verify = true',
                Wanted("https", HUB, PEM, True),
                Verdict.FITS,
            ),
            (
                f'server = "http://{HUB}"\n[host."http://{HUB}"]',
                Wanted("https", HUB),
                Verdict.HTTP_FOR_HTTPS,
            ),
            ('server = "https://m"\n[host."http://mirror"]', PLAIN, Verdict.FITS),
            (
                f'server = "http://{HUB}"\n[host."http://{HUB}"]\ncapabilities = ["push"]',
                PLAIN,
                Verdict.FITS,
            ),
        ],
    )
    def test_a_hosts_file(self, table: str, wanted: Wanted, verdict_: Verdict) -> None:
        """The registry's own endpoint is what is looked at."""
        files = {DEFAULT_FILE: WITH_PATH, f"{FOLDER}/hosts.toml": f"{table}\n", "/ca.pem": PEM}
        assert verdict(files, wanted) is verdict_

    def test_nothing_may_be_pulled(self) -> None:
        """The only endpoint is for pushing."""
        text = (
            f'server = "http://{HUB}"\ncapabilities = ["push"]\n'
            f'[host."http://{HUB}"]\ncapabilities = ["resolve"]\n'
        )
        files = {DEFAULT_FILE: WITH_PATH, f"{FOLDER}/hosts.toml": text}
        assert verdict(files) is Verdict.NO_PULL
