"""Small texts to train a tokenizer on while one waits: a tale, this project's code, a paragraph in many tongues."""

from pathlib import Path

TALE = """\
The lighthouse stood at the end of the long wall, where the harbour ends and the open sea begins. Every \
evening, when the sun was low over the water, the old keeper climbed the stairs, one hundred and twelve of \
them, and lit the lamp. Every morning, when the sun was high enough, he climbed them again and put it out. He \
had done this for thirty-one years, and he had never been late.

"Why do you light it when there is no ship?" asked the girl who brought him bread. She was nine years old, and \
she asked many questions.

"Because I don't know that there is no ship," said the keeper. "I only know that I can't see one."

The girl thought about this for a while. She looked out over the water, and there was nothing there but the \
water and the light on the water. Then she said, "So the light is a question, and the ship would be the answer."

"It's more like this," said the keeper. "The light is the answer. The ship brings the question with her, and \
when she is out there in the dark, and the wind is rising, she asks: where is the wall? Where is the harbour? \
And the answer is already there. It has been there all night, whether anybody asked or not."

"That's a lot of answers that nobody asked for," said the girl.

"It is," said the keeper, and he laughed. "Three hundred and sixty-five in a year. Eleven thousand three \
hundred and fifteen since I began."

That night the wind came up from the south, and the sea was loud against the wall. The girl lay in her bed and \
listened to it. She could see the light from her window: it came and it went, it came and it went, and between \
the coming and the going there were always the same six seconds. She counted them. One, two, three, four, five, \
six, and there it was. One, two, three, four, five, six, and there it was again. She counted until she was \
nearly asleep, and then she counted to seven, and to eight, and to nine, and there was no light.

She was out of her bed before she had finished counting. She put on her coat and her boots, and she ran down \
the street and along the wall, with the water coming over the stones on one side and falling back into the \
harbour on the other. The door of the lighthouse was open. The keeper was sitting at the foot of the stairs, \
holding his knee, and his lamp lay broken beside him.

"I fell," he said. "I was going up to see to the oil. I can't climb, and it's the hundred and twelve that I \
can't climb."

"I can," said the girl.

"It's dark up there, and the wind is in the windows. Have you ever been at the top at night?"

"No," said the girl, "but I've been there in the day, and the stairs are the same stairs." And she took the can \
of oil in one hand and the rail in the other, and she climbed. She counted the stairs as she had counted the \
seconds. At forty she could hear the wind. At eighty she could feel it. At one hundred and twelve there was a \
door, and behind the door there was the great lamp, with its glass as tall as she was, and it was cold and \
black.

She filled it with oil. She trimmed the wick, as she had seen the keeper do it, and she lit it with the third \
of her three matches. Then she turned the handle that winds the clock that turns the glass, and the light went \
out over the water, and came back, and went out again.

And out there, on the water, something answered. It was a small light, a green one, low down between the waves, \
and it was nearer to the wall than it should have been. It stood still. Then it turned, slowly, the way a ship \
turns when somebody at the wheel has seen what there was to be seen, and it moved away from the wall and \
towards the mouth of the harbour.

The girl watched it until it was in. Then she went down, all the hundred and twelve, and sat beside the keeper \
on the last stair.

"There was a ship," she said.

"Was there?" said the keeper. "And what did she ask?"

"She asked where the wall was," said the girl. "And I told her."

Many years later, when the keeper was gone and the girl was the keeper, a man came along the wall with a box \
under his arm. "This is a lamp that lights itself," he said. "It knows when the sun goes down, and it knows \
when the sun comes up. Nobody has to climb the stairs any more."

"Does it know when there is a ship?" asked the keeper.

"It doesn't have to know," said the man. "It's a lamp."

The keeper looked at the box, and she looked at the stairs. There were still one hundred and twelve of them. \
Then she helped the man to carry the box to the top, and she held the tools while he worked, and when the \
evening came they stood there together and watched the lamp light itself. It was a good lamp. It was brighter \
than the old one, and it never needed oil.

"What will you do now?" asked the man, when they were at the foot of the stairs again. "You could sleep in the \
night and wake in the day, like other people."

"I could," said the keeper, and she thought about it for a while. "But there's one thing that your lamp can't \
do. If it goes out, it won't know that it has gone out. Somebody has to lie in bed and count to seven."

The man didn't understand this, so she told him about the night when the wind came up from the south. She told \
him about the oil and the three matches, and about the small green light between the waves. When she had \
finished it was dark, and the light came and went over the water, and they both counted without saying so. One, \
two, three, four, five, six, and there it was.

"I've built four hundred of these lamps," said the man at last, "and nobody has ever told me what they are for."

He stayed for the winter. He said that it was because of the ice on the road, but the ice on the road was gone \
by the end of the month and he was still there. In the day he mended boats, and he was good at it, because a \
boat is only a box that has to know about the water. In the night he lay awake and listened, and when he heard \
her counting through the wall he counted too.

In the spring he made a second box, a very small one, with a bell in it. "It counts to seven," he said. "If the \
light doesn't come back, it rings, and then whoever hears it can climb the stairs."

"And if the bell breaks?" asked the keeper.

"Then there are still the two of us," said the man.
"""
"""English prose in which words come again and again, as in any tale."""

TONGUES = """\
The sea is calm today. A small boat leaves the harbour, and two children stand on the wall. "When will you come \
back?" they call. "When the nets are full," says the old man. "The sea is large and the boat is small, but the \
way home is always the same."

Das Meer ist heute ruhig. Ein kleines Boot verlässt den Hafen, und zwei Kinder stehen auf der Mauer. „Wann \
kommst du zurück?“, rufen sie. „Wenn die Netze voll sind“, sagt der alte Mann. „Das Meer ist groß und das Boot \
ist klein, aber der Weg nach Hause ist immer derselbe.“

La mer est calme aujourd’hui. Un petit bateau quitte le port, et deux enfants se tiennent sur le mur. « Quand \
reviendras-tu ? » crient-ils. « Quand les filets seront pleins », dit le vieil homme. « La mer est grande et le \
bateau est petit, mais le chemin de la maison est toujours le même. »

El mar está tranquilo hoy. Un pequeño barco sale del puerto, y dos niños están de pie sobre el muro. «¿Cuándo \
volverás?», gritan. «Cuando las redes estén llenas», dice el viejo. «El mar es grande y el barco es pequeño, \
pero el camino a casa es siempre el mismo».

Morze jest dziś spokojne. Mała łódź opuszcza port, a dwoje dzieci stoi na murze. „Kiedy wrócisz?” – wołają. \
„Kiedy sieci będą pełne” – mówi stary człowiek. „Morze jest wielkie, a łódź jest mała, ale droga do domu jest \
zawsze ta sama”.

Deniz bugün sakin. Küçük bir tekne limandan ayrılıyor, iki çocuk duvarın üstünde duruyor. “Ne zaman \
döneceksin?” diye sesleniyorlar. “Ağlar dolunca,” diyor yaşlı adam. “Deniz büyük, tekne küçük, ama eve giden \
yol hep aynı.”

Η θάλασσα είναι ήρεμη σήμερα. Μια μικρή βάρκα φεύγει από το λιμάνι και δύο παιδιά στέκονται πάνω στον τοίχο. \
«Πότε θα γυρίσεις;» φωνάζουν. «Όταν γεμίσουν τα δίχτυα», λέει ο γέρος. «Η θάλασσα είναι μεγάλη και η βάρκα \
είναι μικρή, αλλά ο δρόμος για το σπίτι είναι πάντα ο ίδιος».

Море сегодня спокойное. Маленькая лодка выходит из гавани, и двое детей стоят на стене. «Когда ты вернёшься?» — \
кричат они. «Когда сети будут полны», — говорит старик. «Море большое, а лодка маленькая, но дорога домой \
всегда одна и та же».

البحر هادئ اليوم. قارب صغير يغادر الميناء، وطفلان يقفان على الجدار. «متى ستعود؟» يناديان. «عندما تمتلئ الشباك»، \
يقول الرجل العجوز. «البحر كبير والقارب صغير، لكن الطريق إلى البيت هو نفسه دائما».

הים שקט היום. סירה קטנה יוצאת מן הנמל, ושני ילדים עומדים על החומה. "מתי תחזור?" הם קוראים. "כשהרשתות יהיו \
מלאות", אומר הזקן. "הים גדול והסירה קטנה, אבל הדרך הביתה היא תמיד אותה דרך".

समुद्र आज शांत है। एक छोटी नाव बंदरगाह से निकलती है, और दो बच्चे दीवार पर खड़े हैं। “तुम कब लौटोगे?” वे पुकारते \
हैं। “जब जाल भर जाएँगे,” बूढ़ा आदमी कहता है। “समुद्र बड़ा है और नाव छोटी है, लेकिन घर का रास्ता हमेशा वही है।”

今天大海很平静。一条小船离开港口，两个孩子站在墙上。“你什么时候回来？”他们喊道。“等渔网装满的时候，”老人说。“大\
海很大，小船很小，但是回家的路永远是同一条路。”

今日の海は静かです。小さな船が港を出ていき、二人の子どもが壁の上に立っています。「いつ帰ってくるの？」と子どもた\
ちは叫びます。「網がいっぱいになったら」と老人は言います。「海は大きくて船は小さいけれど、家に帰る道はいつも同じ\
です。」

오늘 바다는 잔잔합니다. 작은 배가 항구를 떠나고, 두 아이가 벽 위에 서 있습니다. “언제 돌아오세요?” 아이들이 \
외칩니다. “그물이 가득 차면,” 노인이 말합니다. “바다는 크고 배는 작지만, 집으로 가는 길은 언제나 같습니다.”

Biển hôm nay lặng. Một chiếc thuyền nhỏ rời bến cảng, và hai đứa trẻ đứng trên bức tường. “Bao giờ ông về?” \
chúng gọi. “Khi lưới đầy,” ông già nói. “Biển thì lớn và thuyền thì nhỏ, nhưng đường về nhà bao giờ cũng vậy.”

Bahari ni tulivu leo. Mashua ndogo inaondoka bandarini, na watoto wawili wamesimama juu ya ukuta. “Utarudi \
lini?” wanaita. “Nyavu zitakapojaa,” anasema mzee. “Bahari ni kubwa na mashua ni ndogo, lakini njia ya kurudi \
nyumbani ni ile ile siku zote.”
"""
"""The same few sentences sixteen times, in nine scripts: a little of everything, much of nothing."""


def code() -> str:
    """Python: the source of the tokenizer itself."""
    names = ("steps.py", "tokenizer.py", "pretokenize.py")
    return "\n".join(Path(__file__).with_name(name).read_text(encoding="utf-8") for name in names)


def sample_texts() -> dict[str, str]:
    """The built-in texts by name."""
    return {"a tale": TALE, "Python code": code(), "many languages": TONGUES}
