/* Conveniences only: every page works without this file. */
(() => {
  "use strict";
  const root = document.documentElement;
  const kept = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  const keep = (theme) => { try { localStorage.setItem("theme", theme); } catch { /* private mode */ } };
  const stored = kept();
  if (stored === "dark" || stored === "light") root.dataset.theme = stored;

  const isDark = () => root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;

  document.addEventListener("DOMContentLoaded", () => {
    const toggle = document.querySelector("[data-theme-toggle]");
    if (toggle) {
      const label = () => { toggle.textContent = isDark() ? "Light" : "Dark"; };
      toggle.hidden = false;
      label();
      toggle.addEventListener("click", () => {
        root.dataset.theme = isDark() ? "light" : "dark";
        keep(root.dataset.theme);
        label();
      });
    }
    for (const form of document.querySelectorAll("[data-auto-submit]")) {
      form.addEventListener("change", (event) => {
        if (event.target instanceof HTMLSelectElement) form.requestSubmit();
      });
    }
    window.addEventListener("beforeprint", () => {
      for (const one of document.querySelectorAll("main details")) one.open = true;
    });
    document.addEventListener("keydown", (event) => {
      if (event.altKey || event.ctrlKey || event.metaKey) return;
      if (event.target.closest("input, select, textarea")) return;
      if (event.key === "/") {
        const search = document.querySelector("input[type=search]");
        if (search) { event.preventDefault(); search.focus(); }
      }
      const rel = { "[": "prev", "]": "next" }[event.key];
      const link = rel && document.querySelector(`a[rel=${rel}]`);
      if (link) link.click();
    });
  });
})();
