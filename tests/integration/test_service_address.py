import pytest

from app.cli.http_server import listening
from app.domain.errors import ConfigError


def test_a_taken_port_is_named() -> None:
    with listening("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}"), listening("127.0.0.1", port):
            pass
