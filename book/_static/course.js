// Print opens what is folded. Loops get a button. Boxes that scroll can be reached by keyboard.
(() => {
  const PAPER = 600; // pixels: what a printed page surely holds (A4 less its margins is 672)
  const each = (selector, action) => document.querySelectorAll(selector).forEach(action);

  if (typeof DOCUMENTATION_OPTIONS !== "undefined" && location.protocol === "file:") {
    DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false; // summaries are read from the pages, which a browser allows on a server only
  }

  addEventListener("beforeprint", () => {
    each("details:not([open])", (box) => { box.open = true; box.dataset.shut = ""; });
    fitsPaper(); // after the folded ones have a size
    each(".course-animation img", (image) => { image.dataset.moving = image.src; image.src = image.parentElement.querySelector("source").srcset; });
  });
  addEventListener("afterprint", () => {
    each("details[data-shut]", (box) => { box.open = false; delete box.dataset.shut; });
    each(".course-animation img[data-moving]", (image) => { image.src = image.dataset.moving; delete image.dataset.moving; });
  });

  function opens() { // a link into a folded part opens it
    const place = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    let box = place?.closest("details:not([open])");
    if (!box) return;
    for (; box; box = box.parentElement.closest("details")) box.open = true;
    place.scrollIntoView();
  }

  function fitsPaper() {
    each(".bd-article div.math", (box) => {
      const widths = [...box.querySelectorAll("mjx-container > svg")].map((svg) => {
        const least = parseFloat(getComputedStyle(svg).minWidth) || 0; // a formula with a number is as wide as the page, and has a least width
        return svg.closest("[width=full]") ? least : svg.getBoundingClientRect().width;
      });
      box.style.setProperty("--on-paper", Math.min(1, PAPER / Math.max(1, ...widths)));
    });
  }

  function reachable() {
    const article = document.querySelector(".bd-article");
    each(".bd-article span.math mjx-container", (box) => {
      const block = box.closest("p, li, dd, summary") || article;
      box.classList.toggle("too-wide", box.querySelector("svg")?.getBoundingClientRect().width > block.clientWidth);
    });
    each(".bd-article mjx-container, .bd-article div.math, .bd-article pre, .pst-scrollable-table-container", (box) => {
      if (box.scrollWidth <= box.clientWidth + 1 || getComputedStyle(box).overflowX === "visible") return;
      box.tabIndex = 0;
      if (box.matches("mjx-container, div.math")) {
        box.setAttribute("role", "group");
        box.setAttribute("aria-label", "formula");
      }
    });
  }

  function named() { // what the themes leave without a name
    each(".bd-sidebar-primary details > summary", (toggle) => {
      const page = toggle.closest("li")?.querySelector(":scope > a")?.textContent.trim();
      toggle.setAttribute("aria-label", `Pages of ${page || "this part"}`);
    });
    const title = document.querySelector(".bd-sidebar-primary .navbar-brand")?.closest(".sidebar-primary-item");
    title?.setAttribute("role", "region");
    title?.setAttribute("aria-label", "Title");
  }

  function buttons() {
    each(".course-animation picture", (picture) => {
      const image = picture.querySelector("img"), still = picture.querySelector("source");
      if (!image || !still || matchMedia("(prefers-reduced-motion: reduce)").matches) return;
      const moving = image.src, button = document.createElement("button");
      const say = (playing) => { button.textContent = playing ? "Pause" : "Play"; };
      button.type = "button";
      button.className = "course-button";
      button.addEventListener("click", () => {
        const playing = image.src === moving;
        image.src = playing ? still.srcset : moving;
        say(!playing);
      });
      say(true);
      picture.after(button);
    });
  }

  addEventListener("DOMContentLoaded", () => { named(); buttons(); reachable(); opens(); });
  addEventListener("hashchange", opens);
  addEventListener("load", () => {
    const formulas = window.MathJax?.startup?.promise;
    (formulas || Promise.resolve()).then(() => { reachable(); document.documentElement.dataset.formulas = "set"; });
  });
  addEventListener("resize", reachable);
})();
