// A slider and a hold switch for each attribute, in groups that fold.

const SEARCHED = 8; // from so many sliders on there is a field to find one

const rows = new Map();
const groups = [];
let largest = 5;

export function build(overview, onMove, onChoose) {
  largest = overview.largest;
  const attributes = overview.groups.flatMap((group) => group.attributes);
  document.getElementById("hold-title").hidden = !attributes.some((attribute) => attribute.holdable);
  document.getElementById("sliders").replaceChildren(
    ...overview.groups.map((group, index) => {
      const made = makeGroup(group, overview, index === 0);
      groups.push(made);
      return made.box;
    }),
  );
  for (const row of rows.values()) listen(row, onMove, onChoose);
  const field = document.getElementById("find");
  field.hidden = attributes.length < SEARCHED;
  field.addEventListener("input", () => find(field.value.trim().toLowerCase()));
}

function makeGroup(group, overview, open) {
  const box = make("details", { className: "group", open });
  const count = make("span", { className: "count" });
  const title = make("summary", { textContent: group.title });
  title.append(count);
  box.append(title);
  const members = group.attributes.map((attribute) => {
    const row = makeRow(rows.size, attribute, overview);
    rows.set(attribute.name, row);
    box.append(row.box);
    return row;
  });
  return { box, count, members, open };
}

function makeRow(index, attribute, overview) {
  const id = `slider-${index}`;
  const hint = attribute.plus ? `to the right: ${attribute.plus}` : "";
  const box = make("div", { className: "slider" });
  const label = make("label", { htmlFor: id, textContent: attribute.label, title: hint });
  const value = make("output", { htmlFor: id });
  const range = make("input", {
    type: "range", id, min: -overview.largest, max: overview.largest, step: overview.step, value: 0,
  });
  range.dataset.attribute = attribute.name;
  if (hint) range.setAttribute("aria-description", hint);
  const hold = make("input", { type: "checkbox", id: `hold-${index}` });
  hold.setAttribute("role", "switch");
  const switchLabel = make("label", { className: "hold", htmlFor: hold.id, title: `Keep ${attribute.label} as it is` });
  switchLabel.append(hold);
  hold.setAttribute("aria-label", `Hold ${attribute.label}: keep it as it is`);
  hold.hidden = !attribute.holdable;
  box.append(label, range, value, switchLabel);
  return { box, range, value, hold, label: attribute.label.toLowerCase() };
}

function make(tag, properties) {
  return Object.assign(document.createElement(tag), properties);
}

// While something is looked for, only what matches is shown, and groups stand as they stood before.
function find(text) {
  for (const group of groups) {
    if (!group.searched) group.open = group.box.open;
    group.searched = text !== "";
    for (const row of group.members) row.box.hidden = !row.label.includes(text);
    group.box.hidden = group.members.every((row) => row.box.hidden);
    group.box.open = group.searched || group.open;
  }
}

// A key makes a change each time it repeats: the last of them is chosen, after a pause, and one step of undo.
let pause = 0;

function chooseAfter(milliseconds, onChoose) {
  clearTimeout(pause);
  pause = setTimeout(() => {
    pause = 0;
    onChoose();
  }, milliseconds);
}

// Whether something was moved and not chosen yet; it is not going to be.
export function dropMove() {
  const dropped = pause !== 0;
  clearTimeout(pause);
  pause = 0;
  return dropped;
}

function listen(row, onMove, onChoose) {
  let byKey = false;
  row.range.addEventListener("keydown", (event) => {
    byKey = true;
    if (event.key === "0") putBack();
  });
  row.range.addEventListener("pointerdown", () => (byKey = false));
  row.range.addEventListener("input", () => {
    paint(row);
    onMove();
  });
  row.range.addEventListener("change", () => {
    if (byKey) chooseAfter(400, onChoose);
    else onChoose();
  });
  row.range.addEventListener("dblclick", putBack);
  row.hold.addEventListener("change", onChoose);

  function putBack() {
    row.range.value = 0;
    paint(row);
    onMove();
    chooseAfter(100, onChoose);
  }
}

function paint(row) {
  const value = Number(row.range.value);
  const text = value.toFixed(1).replace("-", "−");
  row.value.textContent = value > 0 ? `+${text}` : text;
  row.range.setAttribute("aria-valuetext", row.value.textContent);
  const middle = 50;
  const place = middle + (50 * value) / largest;
  row.range.style.setProperty("--from", `${Math.min(place, middle)}%`);
  row.range.style.setProperty("--to", `${Math.max(place, middle)}%`);
  row.box.classList.toggle("moved", value !== 0);
}

// How many of a group are not as they were, for who has folded it.
function countMoved() {
  for (const group of groups) {
    const moved = group.members.filter((row) => row.hold.checked || Number(row.range.value)).length;
    group.count.textContent = moved ? `${moved} set` : "";
  }
}

// What the sliders and switches ask for.
export function read() {
  const alphas = {};
  const holds = [];
  for (const [name, row] of rows) {
    if (row.hold.checked) holds.push(name);
    else if (Number(row.range.value)) alphas[name] = Number(row.range.value);
  }
  return { alphas, holds };
}

// Put them where a look says; what is held moves by itself.
export function write(state) {
  for (const [name, row] of rows) {
    row.hold.checked = state.look.holds.includes(name);
    row.range.disabled = row.hold.checked;
    row.range.value = state.look.alphas[name] ?? state.held[name] ?? 0;
    row.box.classList.toggle("held", row.hold.checked);
    paint(row);
  }
  countMoved();
}

export function enable(on) {
  for (const row of rows.values()) {
    row.hold.disabled = !on;
    row.range.disabled = !on || row.hold.checked;
  }
}
