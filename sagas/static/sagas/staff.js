/* Copies ids, keeps ages current, and names what Django's widgets leave unnamed. Every page works without it. */
"use strict";
(() => {
  const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  const EVERY = 10000;

  /* The server's words of the same age: "5 minutes ago", "hace 5 minutos"; or the span alone. */
  function spoken(kind, seconds, language) {
    const [unit, length] = UNITS.find(([, size]) => seconds >= size) || UNITS[UNITS.length - 1];
    const number = Math.floor(seconds / length);
    if (kind === "ago") {
      return new Intl.RelativeTimeFormat(language, { numeric: "always" }).format(-number, unit);
    }
    return new Intl.NumberFormat(language, { style: "unit", unit, unitDisplay: "long" }).format(number);
  }

  function refreshAges() {
    for (const age of document.querySelectorAll("time[data-age]")) {
      const seconds = Number(age.dataset.seconds) + performance.now() / 1000;
      age.textContent = spoken(age.dataset.age, seconds, document.documentElement.lang || "en");
    }
  }

  /* The clipboard is for secure pages only; over plain HTTP the browser copies a selection. */
  async function copy(text) {
    if (navigator.clipboard) {
      return navigator.clipboard.writeText(text);
    }
    const field = document.createElement("textarea");
    field.value = text;
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }

  async function onClick(event) {
    const button = event.target.closest("button[data-copy]");
    if (button) {
      event.preventDefault();
      await copy(button.dataset.copy);
      button.focus();
      button.classList.add("sg-copied");
      setTimeout(() => button.classList.remove("sg-copied"), 1500);
    }
  }

  document.addEventListener("click", onClick);
  document.addEventListener("DOMContentLoaded", () => {
    for (const button of document.querySelectorAll("button[data-copy]")) {
      button.hidden = false;
    }
    setInterval(refreshAges, EVERY);
  });
  /* After the widgets have been built, which happens on load too. */
  window.addEventListener("load", () => setTimeout(() => {
    for (const hint of document.querySelectorAll("span.help-tooltip[aria-label]")) {
      hint.setAttribute("role", "img");
    }
    /* The menu is a landmark already; the frame that scrolls it would be a second one, without a name. */
    document.querySelector("#nav-sidebar-apps [role='region']")?.removeAttribute("role");
  }));
})();
