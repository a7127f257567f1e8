#!/usr/bin/env python3
"""Take screenshots of stock TensorBoard's tabs over a log directory, with a headless Chromium.

    screenshots.py --logdir logs --out target/screenshots [--tabs images,graphs] [--run fit/train] [--tag grad_cam]

One PNG a tab: groups are opened, the page is made as tall as its content up to --max-height. With --first-screen a tab is
left as it opens. --tag filters the tags of the tabs that have a tag filter; images are shown in their full size with
--actual-size.
"""

import argparse
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from urllib.parse import quote

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

TABS = ["timeseries", "scalars", "custom_scalars", "images", "graphs", "graphs-conceptual", "graphs-profile", "histograms",
        "distributions", "text", "pr_curves", "hparams", "projector"]
FLAGS = ["--headless", "--no-sandbox", "--enable-unsafe-swiftshader", "--disable-quic", "--no-first-run", "--hide-scrollbars",
         "--disable-background-networking", "--disable-component-update", "--disable-sync"]

# TensorBoard is built from nested shadow roots; every search has to go through them.
DEEP = """
function deep(selector, root = document) {
  const found = [...root.querySelectorAll(selector)];
  for (const element of root.querySelectorAll('*')) {
    if (element.shadowRoot) found.push(...deep(selector, element.shadowRoot));
  }
  return found;
}
"""


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--logdir", type=Path, required=True, help="TensorBoard's log directory")
    parser.add_argument("--out", type=Path, required=True, help="directory for <tab>.png")
    parser.add_argument("--tabs", default=",".join(TABS), help=f"comma-separated, of: {', '.join(TABS)}")
    parser.add_argument("--run", default="fit/train", help="the run whose graph is shown")
    parser.add_argument("--tag", default="", help="regular expression for the tag filter")
    parser.add_argument("--first-screen", action="store_true", help="capture the tab as it opens, without any click")
    parser.add_argument("--actual-size", action="store_true", help="show images pixel by pixel")
    parser.add_argument("--expand", default="", help="comma-separated graph scopes to open, by name")
    parser.add_argument("--width", type=int, default=1600)
    parser.add_argument("--height", type=int, default=1000, help="least height in pixels")
    parser.add_argument("--max-height", type=int, default=6000)
    parser.add_argument("--wait", type=float, default=6.0, help="seconds a tab is given to draw")
    parser.add_argument("--load-fast", default="true", choices=["true", "false"])
    parser.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("google-chrome"))
    parser.add_argument("--chromedriver", default=shutil.which("chromedriver"))
    options = parser.parse_args()
    options.tabs = options.tabs.split(",")
    for tab in options.tabs:
        if tab not in TABS:
            parser.error(f"no tab `{tab}`; there are {', '.join(TABS)}")
    if not options.logdir.is_dir():
        parser.error(f"{options.logdir} is not a directory")
    for name in ("chromium", "chromedriver"):
        if not getattr(options, name):
            parser.error(f"{name} not found; install it (Debian: apt install chromium chromium-driver) or pass --{name}")
    return options


def start_tensorboard(options):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", "--logdir", str(options.logdir), "--host", "127.0.0.1", "--port",
         str(port), f"--load_fast={options.load_fast}", "--samples_per_plugin", "images=100"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    for _ in range(240):
        if server.poll() is not None:
            sys.exit(f"TensorBoard ended with status {server.returncode}")
        try:
            with urllib.request.urlopen(f"{url}/data/runs", timeout=5) as answer:
                if answer.read().strip() != b"[]":
                    return server, url
        except OSError:
            pass
        time.sleep(0.25)
    server.terminate()
    sys.exit(f"TensorBoard shows no run of {options.logdir} after a minute")


def start_browser(options, profile):
    chrome = Options()
    chrome.binary_location = options.chromium
    for flag in FLAGS + [f"--user-data-dir={profile}", f"--window-size={options.width},{options.height}"]:
        chrome.add_argument(flag)
    return webdriver.Chrome(options=chrome, service=Service(executable_path=options.chromedriver))


def set_height(browser, width, height):
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False})


def address(url, tab, options):
    run = quote(options.run, safe="")
    fragment = f"graphs&run={run}" if tab.startswith("graphs") else f"{tab}&tagFilter={quote(options.tag, safe='')}"
    # Time Series keeps its filter in the query, the older tabs in the fragment.
    query = f"tagFilter={quote(options.tag, safe='')}" if tab == "timeseries" else ""
    return f"{url}/?darkMode=false&{query}#{fragment}"


def open_groups(browser):
    """Open every collapsed group of cards; TensorBoard opens only the first few."""
    browser.execute_script(DEEP + """
      for (const pane of deep('tf-category-paginated-view, tf-category-pane')) {
        const button = pane.shadowRoot && pane.shadowRoot.querySelector('button.heading');
        const collapse = pane.shadowRoot && pane.shadowRoot.querySelector('iron-collapse');
        if (button && collapse && !collapse.opened) button.click();
      }
      for (const button of deep('button.group-toolbar')) {
        if (button.querySelector('mat-icon[svgicon^=expand_more]')) button.click();
      }
    """)


def show_actual_size(browser):
    browser.execute_script(DEEP + """
      for (const dashboard of deep('tf-image-dashboard')) dashboard._actualSize = true;
      for (const box of deep('mat-checkbox input')) {
        if (/actual image size/.test(box.closest('mat-checkbox').textContent) && !box.checked) box.click();
      }
    """)


def close_settings(browser):
    """Give the cards of Time Series the room that its settings pane takes."""
    browser.execute_script(DEEP + "deep('button.settings-button[aria-pressed=true]').forEach(button => button.click());")


def choose_conceptual_graph(browser):
    browser.execute_script(DEEP + """
      const [controls] = deep('tf-graph-controls');
      const run = controls.datasets[controls._selectedRunIndex];
      controls._selectedTagIndex = run.tags.findIndex(tag => tag.conceptualGraph);
      controls._selectedGraphType = 'conceptual_graph';
    """)


def choose_profile(browser):
    """The run graph coloured by the time that its operations take."""
    browser.execute_script(DEEP + """
      const [controls] = deep('tf-graph-controls');
      const run = controls.datasets[controls._selectedRunIndex];
      controls._selectedTagIndex = run.tags.findIndex(tag => tag.profile);
      controls._selectedGraphType = 'profile';
    """)


def colour_by_time(browser):
    browser.execute_script(DEEP + "deep('tf-graph-controls').forEach(controls => { controls.colorBy = 'compute_time'; });")


def expand_scopes(browser, scopes):
    for scope in scopes:
        opened = browser.execute_script(DEEP + """
          for (const graph of deep('tf-graph')) {
            if (graph.renderHierarchy && graph.renderHierarchy.getRenderNodeByName(arguments[0])) {
              graph.fire('node-toggle-expand', {name: arguments[0]});
              return true;
            }
          }
          return false;
        """, scope)
        if not opened:
            print(f"{browser.current_url}: no scope `{scope}`", file=sys.stderr)
        time.sleep(1.5)
    browser.execute_script(DEEP + """
      deep('tf-graph-dashboard').forEach(dashboard => { dashboard._selectedNode = null; });
      deep('tf-graph-board').forEach(board => board.fit());
    """)
    time.sleep(1.5)


def content_height(browser):
    """The height at which no pane needs to scroll."""
    return browser.execute_script(DEEP + """
      let missing = 0;
      for (const element of deep('*')) {
        const style = getComputedStyle(element);
        if (/(auto|scroll)/.test(style.overflowY) && element.clientWidth > window.innerWidth / 3) {
          missing = Math.max(missing, element.scrollHeight - element.clientHeight);
        }
      }
      return window.innerHeight + missing;
    """)


def reveal(browser, tab, options):
    """Choose, open and scroll until everything in a tab is drawn."""
    if tab == "graphs-conceptual":
        choose_conceptual_graph(browser)
        time.sleep(options.wait / 2)
    if tab == "graphs-profile":
        choose_profile(browser)
        time.sleep(options.wait / 2)
        colour_by_time(browser)
        time.sleep(options.wait / 3)
    if tab.startswith("graphs"):
        expand_scopes(browser, [scope for scope in options.expand.split(",") if scope])
    else:
        open_groups(browser)
        time.sleep(options.wait / 3)
        if options.actual_size:
            show_actual_size(browser)
            time.sleep(options.wait / 3)
        close_settings(browser)
        # Cards are drawn when they come into view, so a taller window may have still more to show.
        for _ in range(4):
            wanted = min(options.max_height, max(options.height, content_height(browser)))
            if wanted <= browser.execute_script("return window.innerHeight"):
                break
            set_height(browser, options.width, wanted)
            time.sleep(options.wait / 3)
        time.sleep(options.wait / 3)


def shoot(browser, url, tab, options):
    set_height(browser, options.width, options.height)
    browser.get("about:blank")
    browser.get(address(url, tab, options))
    time.sleep(options.wait)
    if not options.first_screen:
        reveal(browser, tab, options)
    path = options.out / f"{tab}.png"
    browser.save_screenshot(str(path))
    print(f"{path}: {options.width} x {browser.execute_script('return window.innerHeight')}", flush=True)


def main():
    options = arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    server, url = start_tensorboard(options)
    try:
        with tempfile.TemporaryDirectory(prefix="screenshots-", ignore_cleanup_errors=True) as profile:
            browser = start_browser(options, profile)
            try:
                for tab in options.tabs:
                    shoot(browser, url, tab, options)
            finally:
                browser.quit()
    finally:
        server.terminate()
        server.wait(10)


if __name__ == "__main__":
    main()
