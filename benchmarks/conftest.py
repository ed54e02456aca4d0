"""Tables of ratios, printed when a file's benchmarks are done."""

import pytest


@pytest.fixture(scope="module")
def lines(request):
    rows: list[str] = []
    yield rows
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        out = request.config.get_terminal_writer()
        out.line()
        for row in rows:
            out.line(row)
