"""What LaTeX sets is what the cells say."""

from __future__ import annotations

import shutil
import subprocess

import pandas as pd
import pytest

from cnn2gnn.report.latex import latex_table, latex_text

LATEX = shutil.which("pdflatex")
ODD = [
    "Ba$$in", "<unknown>", "50 %", "a_b", "#1", "{x}", "a\\b", "~^", "[0]", "*", "a--b---c", "&",
    "`q'", '"', "|", "é", "ß", "ŝ", "ą", "Đ", "قطة", "猫", "🐱", "x" * 200, "e\u0301", "−", "",
]  # fmt: skip


@pytest.mark.skipif(LATEX is None, reason="no LaTeX here; Debian: apt install texlive-latex-base")
def test_a_table_of_any_signs_compiles(tmp_path):
    table = pd.DataFrame({name: ODD for name in ("class", "a_$b", "[c]")})
    (tmp_path / "all.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs,graphicx}\\begin{document}\n"
        + latex_table(table, "All: " + " ".join(ODD), "tab:odd")
        + "\\end{document}\n",
        encoding="utf-8",
    )
    command = [LATEX, "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]


def test_signs_that_latex_reads_otherwise_are_told_from_letters():
    assert latex_text("<a>|b") == r"\textless{}a\textgreater{}\textbar{}b"
    assert latex_text("[0] *") == "{[}0] {*}"  # else arguments of the \\ before them
    assert latex_text("a---b-c") == "a-{}-{}-b-c"
    assert latex_text("é 猫") == r"é \ifdefined\Umathchar 猫\else\texttt{U+732B}\fi{}"


def test_long_cells_are_shortened():
    tex = latex_table(pd.DataFrame({"class": ["x" * 200]}), "", "tab:x")
    assert "x" * 49 not in tex
    assert "…" in tex
