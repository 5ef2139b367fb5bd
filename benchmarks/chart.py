"""A bar chart as SVG, with nothing but text formatting."""

from __future__ import annotations

from html import escape

WIDTH, BAR, GAP, LEFT = 720, 22, 12, 260


def draw(title: str, rows: list[tuple[str, float]]) -> str:
    """Return the chart of values that are multiples of one; a line marks one."""
    scale = (WIDTH - LEFT - 60) / max(1.2, *(value for _, value in rows))
    height = 50 + len(rows) * (BAR + GAP) + 20
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}"'
    parts = [
        f'{opening} font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="10" y="24" font-size="15" font-weight="bold">{escape(title)}</text>',
    ]
    for number, (name, value) in enumerate(rows):
        y = 44 + number * (BAR + GAP)
        parts.append(f'<text x="{LEFT - 8}" y="{y + 16}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<rect x="{LEFT}" y="{y}" width="{value * scale:.1f}" height="{BAR}" fill="#4a7fb5"/>')
        parts.append(f'<text x="{LEFT + value * scale + 6:.1f}" y="{y + 16}">{value:.2f}</text>')
    one = LEFT + scale
    parts.append(
        f'<line x1="{one:.1f}" y1="36" x2="{one:.1f}" y2="{height - 12}" stroke="#b33" stroke-dasharray="4 3"/>'
    )
    parts.append("</svg>\n")
    return "\n".join(parts)
