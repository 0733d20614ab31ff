"""The pages of a registry, in headless Chromium: with scripts off, by keyboard, light and dark, on a narrow screen."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from registry_server import INDEX, MANIFEST, Server, digest_of, image, registry  # noqa: F401
from webdriver import ENTER, TAB, Browser, available

pytestmark = pytest.mark.skipif(not available(), reason="chromium or chromedriver is not installed")
HOSTILE = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
CONFIG = {
    "os": "linux", "architecture": "amd64", "created": "2026-11-20T10:11:12Z",
    "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "0" * 64]},
    "config": {"Cmd": ["nginx", "-g", "daemon off;"], "Env": ["LANG=C.UTF-8"], "ExposedPorts": {"80/tcp": {}},
               "Labels": {"org.opencontainers.image.description": "A web server & more", "maintainer": HOSTILE}},
    "history": [{"created_by": "RUN apt-get install nginx"}, {"created_by": "CMD nginx", "empty_layer": True}],
}  # fmt: skip


@pytest.fixture(scope="module")
def site(registry: Server) -> Server:  # noqa: F811
    client = registry.client
    document = image(client, "team/web", b"x" * 4321, configuration=json.dumps(CONFIG).encode(), annotations={HOSTILE: HOSTILE})
    digest = client.push_manifest("team/web", "v1", document)
    platform = {"os": "linux", "architecture": "amd64"}
    item = {"mediaType": MANIFEST, "digest": digest, "size": len(json.dumps(document)), "platform": platform}
    client.push_manifest("team/web", "latest", {"schemaVersion": 2, "mediaType": INDEX, "manifests": [item]})
    subject = {"mediaType": MANIFEST, "digest": digest, "size": 7}
    client.push_image("team/web", "sbom", b"sbom", subject=subject, artifactType="application/spdx+json")
    client.push_image("team/database", "v1", configuration=b'{"config": {"Labels": {"description": "for the web"}}}')
    client.push_image("other/thing", "v1")
    return registry


@pytest.fixture(scope="module", params=["scripts on", "scripts off"])
def browser(request: pytest.FixtureRequest) -> Iterator[Browser]:
    with Browser(scripts=request.param == "scripts on") as browser:
        browser.go("data:text/html,<title>scripts off</title><script>document.title='scripts on'</script>")
        assert browser.title == request.param
        yield browser


def test_search_finds_by_name_and_by_description(site: Server, browser: Browser) -> None:
    browser.go(site.url)
    assert browser.text("h1") == "3 repositories"
    browser.type("WEB" + ENTER)  # the field has the focus
    browser.until(lambda: "q=WEB" in browser.url)
    assert browser.text("h1").startswith("2 of 3")
    assert browser.text(".found li:first-child h2") == "team/web" and browser.text(".found li:last-child h2") == "team/database"
    assert "A web server & more" in browser.text(".found")
    browser.go(site.url + "/?q=no+such")
    assert "Nothing here has that" in browser.text("main")


def test_from_search_to_an_image_by_keyboard(site: Server, browser: Browser) -> None:
    browser.go(site.url + "/?q=team/web")
    browser.type(TAB)
    assert browser.text(":focus") == "Skip to content"
    browser.type(ENTER)
    browser.until(lambda: browser.url.endswith("#content"))
    browser.type(TAB)
    assert browser.text(":focus") == "team/web" and browser.style(":focus", "outline-style") == "solid"
    browser.type(ENTER)
    browser.until(lambda: "/repository/team/web" in browser.url)
    assert [browser.text(f"tbody tr:nth-child({n}) th") for n in (1, 2, 3)] == ["latest", "sbom", "v1"]
    assert browser.text("tbody tr:nth-child(3)").startswith("v1 linux/amd64 ")
    browser.click("tbody tr:nth-child(3) th a")
    browser.until(lambda: browser.url.endswith("/image/team/web:v1"))
    assert browser.text("h1") == "team/web:v1"


def test_an_image_tells_its_layers_configuration_and_referrers(site: Server, browser: Browser) -> None:
    browser.go(site.url + "/image/team/web:v1")
    text = browser.text("main")
    for part in ("4.32 kB", "RUN apt-get install nginx", digest_of(b"x" * 4321)[7:19], '["nginx", "-g", "daemon off;"]', "80/tcp",
                 "LANG=C.UTF-8", "linux/amd64", "2026-11-20T10:11:12Z", "application/spdx+json"):  # fmt: skip
        assert part in text, part
    assert f"minirt pull --tls-verify=false {site.host}/team/web:v1" in text
    browser.click("section, [aria-label=Referrers] a")
    browser.until(lambda: "@sha256:" in browser.url)
    assert "Refers to" in browser.text("dl")


def test_what_was_pushed_is_shown_and_not_run(site: Server, browser: Browser) -> None:
    browser.go(site.url + "/image/team/web:v1")
    assert HOSTILE in browser.text("main") and browser.title == "team/web:v1"
    policy = site.client("GET", "/image/team/web:v1").headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src" not in policy


def test_an_index_leads_to_its_images(site: Server, browser: Browser) -> None:
    browser.go(site.url + "/image/team/web:latest")
    browser.click("[aria-label=Images] a")
    browser.until(lambda: "@sha256:" in browser.url)
    assert "RUN apt-get install nginx" in browser.text("main")


def test_what_is_not_there_says_so(site: Server, browser: Browser) -> None:
    for path in ("/image/team/web:none", "/repository/none", f"/image/team/web@sha256:{'0' * 64}"):
        assert site.client("GET", path).status == 404
        browser.go(site.url + path)
        assert browser.text("h1") == "Not found"


def luminance(color: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    channels = [int(value) / 255 for value in re.findall(r"\d+", color)[:3]]
    red, green, blue = (value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_light_and_dark(site: Server, browser: Browser, scheme: str) -> None:
    """WCAG 2.2, 1.4.3: 4.5 to 1."""
    browser.scheme(scheme)
    browser.go(site.url + "/image/team/web:v1")
    ground = browser.style("body", "background-color")
    assert (luminance(ground) > 0.5) == (scheme == "light")
    for selector in ("h1", "dt", "dd", "main a", "th", "td", "code"):
        assert contrast(browser.style(selector, "color"), ground) >= 4.5, selector
    header = browser.style("header", "background-color")
    assert contrast(browser.style("header a.home", "color"), header) >= 4.5
    browser.scheme("light")


def test_a_narrow_screen_scrolls_one_way_only(site: Server) -> None:
    """WCAG 2.2, 1.4.10: at 320 pixels; tables scroll by themselves."""
    long = "a/very-long-name-that-somebody-thought-to-be-a-good-idea/with-a-second-component-that-is-no-shorter"
    site.client.push_image(long, "v" * 128, configuration=json.dumps(CONFIG).encode())
    try:
        with Browser() as browser:
            browser.width(320)
            for path in ("/", "/repository/team/web", "/image/team/web:v1", f"/repository/{long}", f"/image/{long}:{'v' * 128}"):
                browser.go(site.url + path)
                width, inner = browser.run("return [document.scrollingElement.scrollWidth, innerWidth]")
                assert width <= inner == 320, path
    finally:
        site.client("DELETE", f"/v2/{long}/manifests/{'v' * 128}")
