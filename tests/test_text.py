"""Names in each format: shown as they are, and without a meaning there."""

import re
from html.parser import HTMLParser

import pytest

from varshare_pl.text import html, latex, markdown, plain, shortened, text_width

NAMES = ["<script>x</script>", "a|b $x_1$ 50% & #1 {y} \\foo ~^", "**bold** _it_ `code` [l](http://x)", "$\\foo$"]
NAMES += ["日本語 😀 ü", "two\nlines\ttab", "\x1b[31mred", "\u202eturned", "[0.1, 0.2]", "*", "--", "\\", "ends\\"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("two\nlines\ttab\r", r"two\nlines\ttab\r"),
        ("\x1b[31mred\x07\x00", r"\x1b[31mred\x07\x00"),
        ("line\u2028break", r"line\u2028break"),
        ("\u202eturned", r"\u202eturned"),
        ("half \ud800", r"half \ud800"),
        ("日本語 👩‍🚀 ü ع", "日本語 👩‍🚀 ü ع"),
        ("a\\n $x$ <b>", "a\\n $x$ <b>"),
    ],
)
def test_plain(name, shown):
    assert plain(name) == shown


@pytest.mark.parametrize("name", NAMES)
def test_html_gives_the_name_back(name):
    seen = []
    parser = HTMLParser()
    parser.handle_data = seen.append
    parser.handle_starttag = lambda tag, attributes: seen.append(f"a tag {tag}")
    parser.feed(html(name))
    parser.close()
    assert "".join(seen) == plain(name)


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("a|b", r"a\|b"),
        ("a\\|b", r"a\\\|b"),
        ("soft_modularization", "soft_modularization"),
        ("_it_ __x__", r"\_it\_ \_\_x\_\_"),
        ("*b* `c`", r"\*b\* \`c\`"),
        ("<b> & $x$ ~~s~~", "&lt;b&gt; &amp; &#36;x&#36; &#126;&#126;s&#126;&#126;"),
        ("[l](x) [l][x] [l]: x", r"[l]\(x) [l]\[x] [l]\: x"),
        ("0.91 [0.85, 0.97]", "0.91 [0.85, 0.97]"),
        ("# 1", r"\# 1"),
        ("- item", r"\- item"),
        ("12. item", r"12\. item"),
        ("-1.5", "-1.5"),
        ("two\nlines", r"two\\nlines"),
    ],
)
def test_markdown(name, written):
    assert markdown(name) == written


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("a & b_c 50% #1 {y} $x$", r"a \& b\_c 50\% \#1 \{y\} \$x\$"),
        ("\\foo ~^ `", r"\textbackslash{}foo \textasciitilde{}\textasciicircum{} \textasciigrave{}"),
        ("<a|b>", r"\textless{}a\textbar{}b\textgreater{}"),
        ("[x] a [y]", "{[}x] a [y]"),
        ("*x", "{*}x"),
        ("a---b", "a-{}-{}-b"),
        ("0.91 ± 0.05 − ≥ –", r"0.91 $\pm$ 0.05 $-$ $\geq$ --"),
        ("two\nlines", r"two\textbackslash{}nlines"),
    ],
)
def test_latex(name, written):
    assert latex(name) == written


@pytest.mark.parametrize("write", [plain, html, markdown, latex])
@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_one_line_in_every_format(write, name):
    assert len(write(name).splitlines()) == 1
    assert not re.search("[\x00-\x1f\x7f\u202e]", write(name))


def test_width_and_length():
    assert [text_width(text) for text in ("abc", "日本", "é", "e\u0301", "😀")] == [3, 4, 1, 1, 2]
    assert shortened("a" * 40, 10) == "a" * 9 + "…"
    assert shortened("two\nlines", 20) == r"two\nlines"
