// The style: which one, and how strongly.

import { listen, makeSlider, set } from "./slider.js";

const picker = document.getElementById("style");
const box = document.getElementById("style-strength");
let strength = null;

export function build(overview, onMove, onChoose) {
  document.getElementById("styles").hidden = !overview.styles.length;
  picker.replaceChildren(...["", ...overview.styles].map((name) => new Option(name || "none", name)));
  strength = makeSlider(box, {
    id: "strength", label: "strength", hint: "1 is as it was made",
    min: 0, max: overview.strongest_style, step: overview.style_step, start: 1, digits: 2, signed: false,
  });
  listen(strength, onMove, onChoose);
  picker.addEventListener("change", onChoose);
}

export function read() {
  return { style: picker.value || null, style_strength: Number(strength.range.value) };
}

export function write(look) {
  picker.value = look.style ?? "";
  box.hidden = look.style === null;
  set(strength, look.style_strength);
}

export function enable(on) {
  picker.disabled = strength.range.disabled = !on;
}
