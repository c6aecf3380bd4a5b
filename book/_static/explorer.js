/* Explorers without a kernel: brings to life what zfrepro/explorers.py and zfrepro/page.py write.

   <div class="zf-explorer" data-kind="frames | positions | table"> holds a picture or a table that is complete by
   itself, and a JSON block. This file adds the controls. It loads nothing and stores nothing. In JupyterLab it comes
   with every explorer, and so runs several times.

   The address of a page ends with the state of an explorer: #explorer-1?layer=conv4&map=12

   frames     one slider an axis; the sheet of pictures is moved behind a window
   positions  a square follows mouse or finger over the picture or a heat map; arrow keys, Home, End, Page Up, Page Down
   table      a click on a heading sorts; a word in the field filters */
"use strict";
(() => {
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  const newId = () => `zf-${globalThis.zfSerial = (globalThis.zfSerial || 0) + 1}`;

  /* A link to the state that is shown, and the way back from such a link: `update` gets the state by name. */
  function linked(root, update) {
    root.id ||= `explorer-${[...document.querySelectorAll(".zf-explorer:not([data-kind=table])")].indexOf(root) + 1}`;
    const link = make("a", {className: "zf-link", textContent: "link to this view"});
    if (!root.closest(".jp-OutputArea")) root.append(link); // JupyterLab has no address for it
    function follow() {
      const [id, state] = location.hash.slice(1).split("?");
      if (id !== root.id) return;
      update(new URLSearchParams(state));
      root.scrollIntoView();
    }
    window.addEventListener("hashchange", follow);
    return {follow, show: state => { link.href = `#${root.id}?${new URLSearchParams(state)}`; }};
  }

  /* axes: [{name, labels}]; notes: one a picture or none; columns: pictures in a row of the sheet;
     cell, sheet: [width, height] in pixels, a cell being a picture with its rim of one pixel; start: the first one. */
  function frames(root, data) {
    const image = root.querySelector("img"), note = root.querySelector(".zf-note");
    const controls = make("div", {className: "zf-controls"});
    const sliders = data.axes.map(axis => {
      const id = newId();
      const slider = make("input", {type: "range", id, min: 0, max: axis.labels.length - 1, step: 1, value: 0});
      const shown = make("output");
      shown.setAttribute("for", id);
      slider.addEventListener("input", show);
      if (axis.labels.length > 1) controls.append(make("div", {}, make("label", {htmlFor: id, textContent: axis.name}), slider, shown));
      return {slider, shown, name: axis.name, labels: axis.labels};
    });
    let rest = data.start || 0;
    for (const {slider, labels} of [...sliders].reverse()) {
      slider.value = rest % labels.length;
      rest = Math.floor(rest / labels.length);
    }
    note.setAttribute("aria-live", "polite");
    const link = linked(root, state => {
      for (const {slider, name, labels} of sliders) {
        const at = labels.indexOf(state.get(name));
        if (at >= 0) slider.value = at;
      }
      show();
    });

    function show() {
      let index = 0;
      const state = {};
      for (const {slider, shown, name, labels} of sliders) {
        const at = Number(slider.value);
        state[name] = labels[at];
        index = index * labels.length + at;
        shown.textContent = labels[at];
        slider.setAttribute("aria-valuetext", labels[at]);
      }
      const x = (index % data.columns) * data.cell[0] + 1, y = Math.floor(index / data.columns) * data.cell[1] + 1;
      image.style.transform = `translate(${-100 * x / data.sheet[0]}%, ${-100 * y / data.sheet[1]}%)`;
      if (data.notes.length) note.textContent = data.notes[index];
      root.dataset.index = index;
      link.show(state);
    }
    root.prepend(controls);
    show();
    link.follow();
  }

  /* rows, columns of positions; patch, stride in pixels of the picture; size: [width, height] of it;
     notes, and each of maps: one a position, row after row. */
  function positions(root, data) {
    const stage = root.querySelector(".zf-stage"), square = root.querySelector(".zf-square");
    const note = root.querySelector(".zf-note"), heats = [...root.querySelectorAll(".zf-map")];
    const last = data.rows * data.columns - 1;
    const clamp = (value, high) => Math.max(0, Math.min(high, value));
    let row = 0, column = 0;
    const marks = heats.map(heat => {
      const mark = make("div", {className: "zf-mark"});
      mark.style.width = `${100 / data.columns}%`;
      mark.style.height = `${100 / data.rows}%`;
      heat.append(mark);
      return mark;
    });
    const values = make("p", {className: "zf-values"});
    note.after(values);
    root.append(make("p", {className: "zf-hint", textContent: "Move the square with the mouse, a finger or the arrow keys."}));
    const attributes = {tabindex: 0, role: "slider", "aria-label": "position of the square", "aria-valuemin": 0, "aria-valuemax": last};
    for (const [name, value] of Object.entries(attributes)) stage.setAttribute(name, value);

    function show(newRow, newColumn) {
      row = clamp(newRow, data.rows - 1);
      column = clamp(newColumn, data.columns - 1);
      const index = row * data.columns + column;
      square.style.left = `${100 * column * data.stride / data.size[0]}%`;
      square.style.top = `${100 * row * data.stride / data.size[1]}%`;
      for (const mark of marks) {
        mark.style.left = `${100 * column / data.columns}%`;
        mark.style.top = `${100 * row / data.rows}%`;
      }
      note.textContent = data.notes[index];
      values.textContent = Object.entries(data.maps).map(([name, all]) => `${name}: ${all[index]}`).join("; ");
      stage.setAttribute("aria-valuenow", index);
      stage.setAttribute("aria-valuetext", `row ${row + 1}, column ${column + 1}: ${note.textContent}; ${values.textContent}`);
      root.dataset.index = index;
      link.show({row: row + 1, column: column + 1});
    }
    const link = linked(root, state => show(Number(state.get("row") || 1) - 1, Number(state.get("column") || 1) - 1));
    // A mouse need not press a button; a finger is down whenever it moves.
    function follow(element, where) {
      const move = event => {
        const box = element.getBoundingClientRect();
        show(...where((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height));
      };
      element.addEventListener("pointermove", move);
      element.addEventListener("pointerdown", move);
      element.style.touchAction = "pan-y pinch-zoom"; // a swipe across moves the square, one along the page scrolls it
    }
    follow(stage, (x, y) => [(y * data.size[1] - data.patch / 2) / data.stride, (x * data.size[0] - data.patch / 2) / data.stride].map(Math.round));
    for (const heat of heats) follow(heat, (x, y) => [Math.floor(y * data.rows), Math.floor(x * data.columns)]);
    stage.addEventListener("keydown", event => {
      const step = {
        ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0], PageUp: [-data.rows, 0],
        PageDown: [data.rows, 0], Home: [0, -data.columns], End: [0, data.columns],
      }[event.key];
      if (!step) return;
      event.preventDefault();
      show(row + step[0], column + step[1]);
    });
    show(0, 0);
    link.follow();
  }

  function table(root) {
    const body = root.querySelector("tbody"), rows = [...body.rows], id = newId();
    const field = make("input", {type: "search", id});
    const count = make("output", {className: "zf-count"});
    count.setAttribute("aria-live", "polite");
    field.addEventListener("input", () => {
      const word = field.value.trim().toLowerCase();
      for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(word);
      count.textContent = word ? `${rows.filter(row => !row.hidden).length} of ${rows.length} rows` : "";
    });
    if (rows.length > 10) // fewer are seen at a glance
      root.prepend(make("div", {className: "zf-controls"}, make("div", {}, make("label", {htmlFor: id, textContent: "filter"}), field, count)));
    const headings = [...root.querySelectorAll("thead th")];
    headings.forEach((heading, column) => {
      const button = make("button", {type: "button", textContent: heading.textContent, title: "sort by this column"});
      heading.replaceChildren(button);
      const value = row => row.cells[column].textContent.trim();
      const number = row => parseFloat(value(row).replace(/,/g, "").replace("\u2212", "-"));
      button.addEventListener("click", () => {
        const sign = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
        headings.forEach(other => other.removeAttribute("aria-sort"));
        heading.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
        const numeric = rows.every(row => row.cells[column].classList.contains("zf-number"));
        body.append(...[...rows].sort((a, b) => {
          if (!numeric) return sign * value(a).localeCompare(value(b));
          const x = number(a), y = number(b); // dashes come last, whichever way
          return Number.isNaN(x) - Number.isNaN(y) || sign * (x - y);
        }));
      });
    });
  }

  function start() {
    const kinds = {frames, positions, table};
    for (const root of document.querySelectorAll(".zf-explorer:not([data-ready])")) {
      root.dataset.ready = "";
      const block = root.querySelector('script[type="application/json"]');
      kinds[root.dataset.kind](root, JSON.parse(block.textContent));
    }
  }
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
