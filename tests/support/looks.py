"""How a page looks: what does not fit a phone, and what is hard to read."""

from __future__ import annotations

from tests.support.browser import Browser


def too_wide(page: Browser) -> list[str]:
    """What would have to be scrolled sideways, or is cut off: but the id, which is told to be."""
    return page.run(
        """
        return [...document.querySelectorAll("html, body, body *:not(#last-id, .unseen)")]
          .filter((element) => element.scrollWidth > element.clientWidth && element.clientWidth > 0
            || element.getBoundingClientRect().right > 320)
          .map((element) => `${element.localName} ${element.id} ${element.className}`);
        """
    )


def faint(page: Browser) -> list[str]:
    """The texts whose contrast is below 4.5 : 1 (WCAG 2, success criterion 1.4.3)."""
    return page.run(
        """
        const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
        const linear = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
        const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
        const ground = (element) => {
          const [r, g, b, alpha = 1] = channels(getComputedStyle(element).backgroundColor);
          return alpha || !element.parentElement ? [r, g, b] : ground(element.parentElement);
        };
        const shown = [...document.body.querySelectorAll("*")].filter((element) =>
          element.checkVisibility() && [...element.childNodes].some((node) => /^\\s*\\S/.test(node.data)));
        if (shown.length < 10) return ["too little text to judge"];
        return shown.flatMap((element) => {
          const pair = [luminance(channels(getComputedStyle(element).color)), luminance(ground(element))];
          const ratio = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
          return ratio >= 4.5 ? [] : [`${element.localName} ${element.id}: ${ratio.toFixed(2)}`];
        });
        """
    )
