// Puts new parts of a page, as the server renders them, in the place of old ones. The page is whole without this.
(() => {
  "use strict";
  const main = document.querySelector("main[data-live]");
  const link = document.getElementById("link");
  if (!main || !window.EventSource) return;
  const waiting = new Map();

  const heard = document.getElementById("heard");
  const headline = (part) => part.querySelector("h1, .ask h3")?.textContent;
  const say = (text) => { if (link && link.textContent !== text) link.textContent = text; };

  // What somebody is writing is not taken out of their hands.
  const inUse = (part) => {
    const marked = getSelection();
    if (marked && !marked.isCollapsed && part.contains(marked.anchorNode)) return true;
    const fields = part.querySelectorAll("input:not([type=hidden]), textarea, select");
    for (const field of fields) {
      if (field === document.activeElement) return true;
      if (field.type === "checkbox" ? field.checked !== field.defaultChecked
        : field.tagName !== "SELECT" && field.value !== field.defaultValue) return true;
    }
    return false;
  };

  const put = (part, html) => {
    const open = [...part.querySelectorAll("details[open][id]")].map((d) => d.id);
    const focused = part.contains(document.activeElement) ? document.activeElement : null;
    const place = focused && [...part.querySelectorAll("a, button, summary, [tabindex]")].indexOf(focused);
    const scrolled = [...part.querySelectorAll(".scroll")].map((s) => s.scrollLeft);
    const before = headline(part);
    part.innerHTML = html;
    part.hidden = html === "";
    [...part.querySelectorAll(".scroll")].forEach((s, n) => { s.scrollLeft = scrolled[n] || 0; });
    // Read aloud where it is another one: the ages and latencies that change all the time are not.
    const now = headline(part);
    if (heard && now && now !== before) heard.textContent = now;
    for (const id of open) {
      const details = document.getElementById(id);
      if (details) details.open = true;
    }
    if (focused && place >= 0) {
      const again = part.querySelectorAll("a, button, summary, [tabindex]")[place];
      if (again) again.focus({ preventScroll: true });
    }
  };

  const take = (id, html) => {
    const part = document.getElementById(id);
    if (!part) return;
    if (inUse(part)) {
      waiting.set(id, html);
      part.classList.add("stale");
      return;
    }
    waiting.delete(id);
    part.classList.remove("stale");
    if (part.innerHTML !== html) put(part, html);
  };

  const again = () => { for (const [id, html] of [...waiting]) take(id, html); };
  document.addEventListener("focusout", () => setTimeout(again, 200));

  let source;
  const listen = () => {
    source = new EventSource(main.dataset.live);
    source.addEventListener("open", () => say("This page changes by itself."));
    source.addEventListener("part", (event) => {
      const { id, html } = JSON.parse(event.data);
      take(id, html);
      again();
    });
    source.addEventListener("over", () => { source.close(); location.reload(); });
    source.addEventListener("error", () => {
      say("The controller does not answer: what you see may be old.");
      // It does answer, but not with events: whoever is not logged in any more is asked to.
      if (source.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 3000);
    });
  };
  window.addEventListener("pagehide", () => source && source.close());
  window.addEventListener("pageshow", (event) => { if (event.persisted) listen(); });
  listen();
})();
