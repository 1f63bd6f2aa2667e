// Tab "inside": one image, what enters a layer of the binary network, its answer, and the float twin's.
import {html, short} from "./chart.js";

const bytes = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0));

// `count` maps of `size` pixels; signs are packed eight to a byte, the first in the highest bit.
export function unpacked(text, count, packed) {
  const raw = bytes(text);
  return packed ? Uint8Array.from({length: count}, (_, i) => 255 * ((raw[i >> 3] >> (7 - (i & 7))) & 1)) : raw;
}

function paint(canvas, pixels, [maps, height, width], channels = 1) {
  const columns = Math.min(8, maps), rows = Math.ceil(maps / columns), gap = maps > 1 ? 1 : 0;
  canvas.width = columns * (width + gap);
  canvas.height = rows * (height + gap);
  const context = canvas.getContext("2d"), image = context.createImageData(canvas.width, canvas.height);
  for (let i = 0; i < image.data.length; i += 4) image.data.set([128, 128, 128, 255], i);
  for (let k = 0; k < maps; k++) for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
    const to = 4 * ((Math.floor(k / columns) * (height + gap) + y) * canvas.width + (k % columns) * (width + gap) + x);
    const from = channels * ((k * height + y) * width + x);
    for (let c = 0; c < 3; c++) image.data[to + c] = pixels[from + (channels === 3 ? c : 0)];
  }
  context.putImageData(image, 0, 0);
}

export function insideTab({data, state, set, host}) {
  let sights = data.inside;
  const picker = (id, key) => html("input", {id, type: "range", min: 0, step: 1, oninput: event => set({[key]: +event.target.value})});
  const image = picker("rx-image", "image"), layer = html("select", {id: "rx-layer", onchange: () => set({layer: +layer.value})});
  const pair = html("select", {id: "rx-pair", onchange: () => ask(false)});
  const fetching = html("button", {type: "button", hidden: true, onclick: () => ask(true)}, "Download and look");
  const said = html("p", {class: "rx-said", role: "status"}), body = html("div", {class: "rx-charts"});
  const view = html("div", {}, html("div", {class: "rx-row"}, ...(host.kernel ? [html("label", {for: "rx-pair"}, "network"), pair] : []),
    html("label", {for: "rx-layer"}, "layer"), layer, html("label", {for: "rx-image"}, "test image"), image), said, fetching, body);

  function ask(download) {  // a dataset is downloaded only by that button
    fetching.hidden = true;
    said.textContent = "Looking into the network \u2026";
    host.send({kind: "inside", run: pair.value, download});
  }

  function draw() {
    if (host.kernel) {
      const offered = [["", "the pair of this project (digits)"], ...host.pairs()];
      if (pair.dataset.shown !== offered.join()) {
        pair.replaceChildren(...offered.map(([value, label]) => html("option", {value}, label)));
        pair.dataset.shown = offered.join();
      }
    }
    if (!sights) { said.textContent = "No network to look into."; return; }
    const index = Math.min(state().image, sights.images.length - 1), which = Math.min(state().layer, sights.layers.length - 1);
    const {pixels, truth, channels} = sights.images[index], kind = sights.layers[which];
    image.max = sights.images.length - 1;
    image.value = index;
    image.setAttribute("aria-valuetext", `image ${index + 1} of ${sights.images.length}, ${sights.classes[truth]}`);
    layer.replaceChildren(...sights.layers.map((each, i) => html("option", {value: i}, each.name)));
    layer.value = which;
    const original = html("canvas", {class: "rx-image", role: "img", "aria-label": `test image: ${sights.classes[truth]}`});
    paint(original, bytes(pixels), [1, ...sights.size], channels);
    body.replaceChildren(html("figure", {class: "rx-figure rx-small"}, html("figcaption", {}, `Test image: ${sights.classes[truth]}`), original),
      ...sights.networks.map(network => part(network, network.sights[index][which], kind.shape, sights, truth, index)));
    const answers = sights.networks.map(network => `${network.label} says ${sights.classes[network.answers[index].indexOf(Math.max(...network.answers[index]))]}`);
    said.textContent = `${answers.join("; ")}. The label is ${sights.classes[truth]}.`;
  }

  function part(network, maps, shape, {classes}, truth, index) {
    const canvas = html("canvas", {class: "rx-maps", role: "img", "aria-label": `${shape[0]} maps entering the layer of ${network.label}`});
    paint(canvas, unpacked(maps, shape[0] * shape[1] * shape[2], network.packed), shape);
    const answer = network.answers[index], best = answer.indexOf(Math.max(...answer));
    const rows = classes.map((name, i) => html("tr", {}, html("th", {scope: "row"}, name), html("td", {},
      html("span", {class: `rx-bar${i === best ? (best === truth ? " rx-right" : " rx-wrong") : ""}`, style: `width:${(100 * answer[i]).toFixed(1)}%`})),
      html("td", {class: "rx-number"}, `${(100 * answer[i]).toFixed(1)} %`)));
    return html("figure", {class: "rx-figure"}, html("figcaption", {}, `${network.label}: ${shape[0]} maps that enter the layer, ${network.packed ? "signs (white +1, black \u22121)" : "real values"}`), canvas,
      html("table", {class: "rx-answer"}, html("caption", {}, `Its answer, ${network.about}`), html("tbody", {}, ...rows)));
  }

  function tell(message) {
    if (message.kind !== "inside") return;
    if (message.sights) sights = message.sights;
    else if (!message.text) sights = data.inside;
    draw();
    fetching.hidden = !message.download;
    if (message.text) said.textContent = message.text;
  }
  return {view, draw, charts: [], tell};
}
