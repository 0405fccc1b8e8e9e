"use strict";
(function tables() {
  const keyOf = (row, column) => {
    const cell = row.cells[column];
    if (cell.dataset.sort !== undefined) return Number(cell.dataset.sort);
    const text = cell.textContent.trim();
    return text === "–" || text === "" ? null : text;
  };
  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), undefined, {numeric: true, sensitivity: "base"});
  };
  for (const section of document.querySelectorAll("section.table")) {
    const table = section.querySelector("table");
    const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
    heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      for (const body of table.tBodies) {
        const rows = [...body.rows].map((row) => [keyOf(row, column), row]);
        rows.sort(([a], [b]) => {
          if (a === null || b === null) return (a === null) - (b === null);
          return down ? compare(b, a) : compare(a, b);
        });
        body.append(...rows.map(([, row]) => row));
      }
    }));
    const view = section.querySelector(".view");
    if (view) view.addEventListener("change", () => {
      [...table.tBodies].forEach((body, index) => { body.hidden = index !== view.selectedIndex; });
    });
    const filter = section.querySelector(".filter");
    if (filter) filter.addEventListener("input", () => {
      const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const body of table.tBodies) for (const row of body.rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
      }
    });
  }
})();

(function viewer() {
  const get = (id) => document.getElementById(id);
  const frame = get("viewer");
  if (!frame) return;
  const make = (tag, text, attributes) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    for (const name in attributes || {}) element.setAttribute(name, attributes[name]);
    return element;
  };
  const canvas = get("screen"), pen = canvas.getContext("2d"), scratch = document.createElement("canvas");
  const state = {number: -1, data: null, image: "", prediction: "", slice: 0, off: new Set()};
  const loaded = new Map();

  const picture = (source) => {
    if (!source) return null;
    let image = loaded.get(source);
    if (!image) {
      image = new Image();
      image.onload = draw;
      image.onerror = () => { get("notice").textContent = "This browser cannot show WebP images; use a newer one."; };
      image.src = source;
      loaded.set(source, image);
    }
    return image.complete && image.naturalWidth ? image : null;
  };

  const tile = (context, image, dx, dy) => {
    const {size, across} = state.data;
    const x = (state.slice % across) * size[0], y = Math.floor(state.slice / across) * size[1];
    context.drawImage(image, x, y, size[0], size[1], dx || 0, dy || 0, canvas.width, canvas.height);
  };

  const fresh = () => {
    scratch.width = canvas.width;
    scratch.height = canvas.height;
    const context = scratch.getContext("2d");
    context.imageSmoothingEnabled = false;
    return context;
  };

  const hatch = () => {
    pen.fillStyle = "#6b747c";
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.strokeStyle = "#868f97";
    pen.lineWidth = 2;
    pen.beginPath();
    for (let x = -canvas.height; x < canvas.width; x += 16) {
      pen.moveTo(x, canvas.height);
      pen.lineTo(x + canvas.height, 0);
    }
    pen.stroke();
  };

  function draw() {
    const data = state.data;
    if (!data) return;
    const k = Math.max(1, Math.round(640 / Math.max(data.size[0], data.size[1] * data.aspect)));
    canvas.width = data.size[0] * k;
    canvas.height = Math.max(1, Math.round(data.size[1] * k * data.aspect));
    const chosen = data.images.find((each) => each.name === state.image);
    const image = chosen && picture(chosen.source);
    if (image) {
      pen.imageSmoothingQuality = "high";
      tile(pen, image);
    } else {
      hatch();
    }
    const predicted = data.predictions.find((each) => each.name === state.prediction);
    const shownRegion = (index) => !state.off.has(data.regions[index].name);
    const order = data.order;
    if (predicted && get("predicted").checked) {
      const context = fresh();
      for (const index of order) {
        const mask = shownRegion(index) && picture(predicted.masks[index]);
        if (mask) tile(context, mask);
      }
      pen.globalAlpha = image ? get("opacity").value / 100 : 1;
      pen.drawImage(scratch, 0, 0);
      pen.globalAlpha = 1;
    }
    if (data.truth && get("true").checked) {
      for (const index of order) {
        const mask = shownRegion(index) && picture(data.truth[index]);
        if (mask) outline(mask, Math.max(1, k / 2));
      }
    }
    sides(data.sides);
    describe(data, chosen, predicted);
  }

  function outline(mask, width) {
    const context = fresh();
    for (const [x, y] of [[-1, -1], [0, -1], [1, -1], [-1, 0], [1, 0], [-1, 1], [0, 1], [1, 1]]) {
      tile(context, mask, x * width, y * width);
    }
    context.globalCompositeOperation = "destination-out";
    tile(context, mask);
    pen.drawImage(scratch, 0, 0);
  }

  function sides(marks) {
    if (!marks) return;
    const size = Math.max(14, canvas.width / 28);
    pen.font = "bold " + size + "px sans-serif";
    pen.textBaseline = "top";
    pen.lineWidth = size / 5;
    pen.strokeStyle = "#000000";
    pen.fillStyle = "#ffffff";
    [[marks[0], "left", size / 3], [marks[1], "right", canvas.width - size / 3]].forEach(([text, align, x]) => {
      pen.textAlign = align;
      pen.strokeText(text, x, size / 3);
      pen.fillText(text, x, size / 3);
    });
  }

  const words = {R: "the patient's right", L: "the patient's left", A: "front", P: "back"};

  function describe(data, chosen, predicted) {
    const index = data.slices[state.slice];
    const where = `${index} (${state.slice + 1} of ${data.slices.length})`;
    get("where").textContent = where;
    get("slice").setAttribute("aria-valuetext", `slice ${where}`);
    const missing = !chosen ? "No image of this case is shown: the segmentation stands, on a plain ground." :
      chosen.missing ? `${chosen.name}: ${chosen.missing}. Nothing is shown of it.` : "";
    get("notice").textContent = missing;
    const lacked = predicted && chosen && !chosen.missing && predicted.lacked.includes(chosen.name);
    const parts = [
      `${data.plane || "flat"} view`.replace("flat view", "flat image"),
      data.sides ? `left in the picture: ${words[data.sides[0]]}` : "",
      data.slices.length < data.depth ? `${data.slices.length} of ${data.depth} slices are shown; volumes and scores are of all` : "",
      chosen && chosen.map ? "black: sure, white: undecided" : "",
      lacked ? `the model did not get ${chosen.name} for this prediction` : "",
    ];
    const text = parts.filter(Boolean).join("; ");
    get("about").textContent = text.charAt(0).toUpperCase() + text.slice(1) + ".";
    canvas.setAttribute("aria-label", `${data.case}, ${chosen ? chosen.name : "no image"}${missing ? " (missing)" : ""}, ` +
      `${data.plane} slice ${where}` + (predicted && get("predicted").checked ? `, prediction ${predicted.name}` : "") +
      (data.truth && get("true").checked ? ", truth" : ""));
  }

  function numbers() {
    const data = state.data, table = get("numbers");
    const shown = (data.numbers || {})[state.prediction] || {columns: [], rows: []};
    table.replaceChildren();
    if (!shown.rows.length) return;
    const head = table.createTHead().insertRow();
    shown.columns.forEach((name, index) => head.append(make("th", name, {scope: "col", class: index ? "number" : ""})));
    const body = table.createTBody();
    for (const row of shown.rows) {
      const line = body.insertRow();
      row.forEach((text, index) => line.append(index ? make("td", text, {class: "number"}) : make("th", text, {scope: "row"})));
    }
  }

  function choose(number) {
    if (number === state.number || number < 0 || number >= get("case").options.length) return;
    const data = JSON.parse(get("case-" + number).textContent);
    loaded.clear();
    data.order = data.regions.map((_, index) => index).sort((a, b) => data.regions[b].labels - data.regions[a].labels);
    Object.assign(state, {number, data, slice: data.start});
    get("case").value = String(number);
    get("before").disabled = number === 0;
    get("after").disabled = number === get("case").options.length - 1;
    const usable = data.images.filter((each) => !each.missing), scans = usable.filter((each) => !each.map);
    if (!usable.some((each) => each.name === state.image)) {
      state.image = scans.length ? scans[scans.length - 1].name : "";
    }
    get("images").replaceChildren(...data.images.map((each, index) => {
      const label = make("label"), radio = make("input", undefined, {type: "radio", name: "image", value: each.name});
      radio.checked = each.name === state.image;
      radio.disabled = Boolean(each.missing);
      radio.addEventListener("change", () => { state.image = each.name; draw(); });
      label.append(radio, make("span", each.missing ? `${each.name} – ${each.missing}` : each.name,
        each.missing ? {class: "absent"} : {}));
      return label;
    }));
    const names = data.predictions.map((each) => each.name);
    if (!names.includes(state.prediction)) state.prediction = names.length ? names[0] : "";
    get("prediction").replaceChildren(...names.map((name) => {
      const option = make("option", name);
      option.selected = name === state.prediction;
      return option;
    }));
    get("choose").hidden = get("key-next").hidden = names.length < 2;
    get("has-truth").hidden = get("key-truth").hidden = !data.truth;
    get("regions").replaceChildren(...data.regions.map((region) => {
      const label = make("label"), box = make("input", undefined, {type: "checkbox"}), swatch = make("span", "", {class: "swatch"});
      swatch.style.background = region.colour;
      box.checked = !state.off.has(region.name);
      box.addEventListener("change", () => {
        if (box.checked) state.off.delete(region.name); else state.off.add(region.name);
        draw();
      });
      label.append(box, swatch, make("span", region.title));
      return label;
    }));
    get("details").replaceChildren(...(data.details || []).map((text) => make("li", text)));
    get("slice").max = data.slices.length - 1;
    get("slice").value = state.slice;
    for (const link of document.querySelectorAll("a[data-case]")) {
      link.closest("tr").classList.toggle("chosen", Number(link.dataset.case) === number);
    }
    numbers();
    draw();
  }

  function go(slice) {
    state.slice = Math.min(state.data.slices.length - 1, Math.max(0, slice));
    get("slice").value = state.slice;
    draw();
  }

  function predict(name) {
    state.prediction = name;
    get("prediction").value = name;
    numbers();
    draw();
  }

  const toggle = (box) => { box.checked = !box.checked; draw(); };
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const data = state.data, last = data.slices.length - 1, names = data.predictions.map((each) => each.name);
    const actions = {
      ArrowUp: () => go(state.slice + 1), ArrowDown: () => go(state.slice - 1),
      ArrowRight: () => go(state.slice + 1), ArrowLeft: () => go(state.slice - 1),
      PageUp: () => go(state.slice + 10), PageDown: () => go(state.slice - 10), Home: () => go(0), End: () => go(last),
      p: () => toggle(get("predicted")), t: () => data.truth && toggle(get("true")),
      s: () => names.length && predict(names[(names.indexOf(state.prediction) + 1) % names.length]),
      n: () => choose(state.number + 1), b: () => choose(state.number - 1),
    };
    const number = Number(event.key);
    const action = number >= 1 && number <= data.images.length
      ? () => { const radio = get("images").querySelectorAll("input")[number - 1]; if (!radio.disabled) radio.click(); }
      : actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
  canvas.addEventListener("wheel", (event) => {
    if (document.activeElement !== canvas || event.ctrlKey) return;
    event.preventDefault();
    go(state.slice - Math.sign(event.deltaY));
  }, {passive: false});
  canvas.addEventListener("click", () => canvas.focus());
  get("slice").addEventListener("input", (event) => go(Number(event.target.value)));
  get("case").addEventListener("change", (event) => choose(Number(event.target.value)));
  get("before").addEventListener("click", () => choose(state.number - 1));
  get("after").addEventListener("click", () => choose(state.number + 1));
  get("prediction").addEventListener("change", (event) => predict(event.target.value));
  for (const id of ["predicted", "true", "opacity"]) get(id).addEventListener("input", draw);
  for (const link of document.querySelectorAll("a[data-case]")) {
    link.addEventListener("click", () => choose(Number(link.dataset.case)));
  }
  frame.hidden = false;
  choose(0);
})();
