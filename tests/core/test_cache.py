"""Where things are kept that can be computed again."""

from unirae.core.cache import cache_dir


def test_the_environment_says_where(monkeypatch, tmp_path):
    monkeypatch.setenv("UNIRAE_CACHE_DIR", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.delenv("UNIRAE_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "xdg/unirae"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / ".cache/unirae"
