// A slider and a hold switch for each attribute, in groups that fold.

import { listen, make, makeSlider, set } from "./slider.js";

const SEARCHED = 8; // from so many sliders on there is a field to find one

const rows = new Map();
const groups = [];

export function build(overview, onMove, onChoose) {
  const attributes = overview.groups.flatMap((group) => group.attributes);
  document.getElementById("hold-title").hidden = !attributes.some((attribute) => attribute.holdable);
  document.getElementById("sliders").replaceChildren(
    ...overview.groups.map((group, index) => {
      const made = makeGroup(group, overview, index === 0);
      groups.push(made);
      return made.box;
    }),
  );
  for (const row of rows.values()) {
    listen(row, onMove, onChoose);
    row.hold.addEventListener("change", onChoose);
  }
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

function makeRow(index, attribute, { largest, step }) {
  const hint = attribute.plus ? `to the right: ${attribute.plus}` : "";
  const slider = makeSlider(make("div", {}), {
    id: `slider-${index}`, label: attribute.label, hint,
    min: -largest, max: largest, step, start: 0, digits: 1, signed: true,
  });
  slider.range.dataset.attribute = attribute.name;
  const hold = make("input", { type: "checkbox", id: `hold-${index}` });
  hold.setAttribute("role", "switch");
  const switchLabel = make("label", { className: "hold", htmlFor: hold.id, title: `Keep ${attribute.label} as it is` });
  switchLabel.append(hold);
  hold.setAttribute("aria-label", `Hold ${attribute.label}: keep it as it is`);
  hold.hidden = !attribute.holdable;
  slider.box.append(switchLabel);
  return { ...slider, hold, label: attribute.label.toLowerCase() };
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
    row.box.classList.toggle("held", row.hold.checked);
    set(row, state.look.alphas[name] ?? state.held[name] ?? 0);
  }
  countMoved();
}

export function enable(on) {
  for (const row of rows.values()) {
    row.hold.disabled = !on;
    row.range.disabled = !on || row.hold.checked;
  }
}
