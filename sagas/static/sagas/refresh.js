/* Bring the start page up to date every 15 seconds. Without a script it is as old as its "Updated at" says. */
(() => {
  "use strict";
  const PERIOD = 15000;
  const part = (page, name) => page.querySelector(`[data-refresh="${name}"]`);

  /* Replace only what nobody is using: a part with the focus or a selection stays until the next time. */
  const isUsed = (element) =>
    element.contains(document.activeElement) || (!getSelection().isCollapsed && getSelection().containsNode(element, true));

  async function refresh() {
    if (document.hidden) return;
    const answer = await fetch(location.href, { credentials: "same-origin" });
    if (!answer.ok || answer.redirected) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const name of ["incidents", "tiles"]) {
      const [old, fresh] = [part(document, name), part(page, name)];
      if (old && fresh && !isUsed(old)) old.replaceWith(document.adoptNode(fresh));
    }
    document.title = page.title;
  }

  setInterval(() => refresh().catch(() => {}), PERIOD);
  document.addEventListener("visibilitychange", () => refresh().catch(() => {}));
})();
