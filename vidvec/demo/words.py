"""What the demo's videos show, and what people call it, in English and in Chinese."""

from __future__ import annotations

from dataclasses import dataclass

LANGUAGES = ("en", "zh")


@dataclass(frozen=True, slots=True)
class Theme:
    """A place.

    Attributes:
        group: Its category, which it shares with other themes.
        subjects: What can be seen there, names in ``SUBJECTS``.
        places: By language, phrases that say where (English ones with their preposition).
        tags: By language.
    """

    group: str
    subjects: tuple[str, ...]
    places: dict[str, tuple[str, ...]]
    tags: dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Subject:
    """Something that moves through the picture.

    Attributes:
        family: What it shares with related subjects.
        names: By language, synonyms; the first two are also tags.
    """

    family: str
    names: dict[str, tuple[str, ...]]


def _theme(
    group: str,
    subjects: str,
    places: tuple[str, ...],
    places_zh: tuple[str, ...],
    tags: tuple[str, ...],
    tags_zh: tuple[str, ...],
) -> Theme:
    return Theme(
        group,
        tuple(subjects.split()),
        {"en": places, "zh": places_zh},
        {"en": tags, "zh": tags_zh},
    )


THEMES = {
    "sea": _theme(
        "nature",
        "sailboat bird fish turtle kite jellyfish",
        ("at sea", "by the ocean", "on the coast", "at the beach"),
        ("海边", "海上", "大海", "沙滩上"),
        ("sea", "ocean"),
        ("大海", "海边"),
    ),
    "forest": _theme(
        "nature",
        "deer bird butterfly rabbit drone dog",
        ("in the forest", "in the woods", "under the trees"),
        ("森林里", "树林里", "林间"),
        ("forest", "trees"),
        ("森林", "树木"),
    ),
    "snow": _theme(
        "nature",
        "dog deer rabbit balloon car player",
        ("in the snow", "on a mountain", "in winter", "up in the alps"),
        ("雪地里", "雪山上", "冬天", "冰天雪地里"),
        ("snow", "mountain"),
        ("雪山", "冬天"),
    ),
    "desert": _theme(
        "nature",
        "camel car balloon ufo player",
        ("in the desert", "on the dunes", "in the sahara"),
        ("沙漠里", "沙丘上", "戈壁滩"),
        ("desert", "dunes"),
        ("沙漠", "沙丘"),
    ),
    "city": _theme(
        "travel",
        "car bus cat drone bird ufo",
        ("downtown", "in the city", "on the street", "between skyscrapers"),
        ("城市里", "街头", "市中心", "高楼之间"),
        ("city", "street"),
        ("城市", "街道"),
    ),
    "railway": _theme(
        "travel",
        "train car balloon bird",
        ("on the railway", "along the tracks", "across the country"),
        ("铁路上", "铁轨旁", "旅途中"),
        ("railway", "journey"),
        ("铁路", "旅行"),
    ),
    "kitchen": _theme(
        "life",
        "pot tomato cat fish",
        ("in the kitchen", "on the stove", "at my cooking class"),
        ("厨房里", "灶台上", "美食课堂"),
        ("kitchen", "cooking"),
        ("厨房", "美食"),
    ),
    "garden": _theme(
        "life",
        "butterfly cat dog rabbit tomato kite ball",
        ("in the garden", "among the flowers", "in our backyard"),
        ("花园里", "花丛中", "院子里"),
        ("garden", "flowers"),
        ("花园", "鲜花"),
    ),
    "football": _theme(
        "show",
        "ball player dog drone",
        ("in the stadium", "on the pitch", "at the cup final"),
        ("球场上", "体育场", "比赛中"),
        ("stadium", "match"),
        ("球场", "比赛"),
    ),
    "concert": _theme(
        "show",
        "singer guitar drone balloon",
        ("on stage", "at the concert", "live at the festival"),
        ("舞台上", "演唱会", "音乐节现场"),
        ("concert", "music"),
        ("演唱会", "音乐"),
    ),
    "space": _theme(
        "science",
        "rocket satellite planet ufo",
        ("in space", "among the stars", "in orbit"),
        ("太空中", "星空里", "宇宙深处"),
        ("space", "stars"),
        ("太空", "星空"),
    ),
    "aquarium": _theme(
        "science",
        "fish turtle jellyfish",
        ("in the aquarium", "under water", "behind the glass"),
        ("水族馆", "水下", "鱼缸里"),
        ("aquarium", "underwater"),
        ("水族馆", "水下世界"),
    ),
}


def _subject(family: str, names: tuple[str, ...], names_zh: tuple[str, ...]) -> Subject:
    return Subject(family, {"en": names, "zh": names_zh})


SUBJECTS = {
    "sailboat": _subject(
        "vehicle", ("sailboat", "yacht", "sailing boat"), ("帆船", "游艇", "小船")
    ),
    "car": _subject("vehicle", ("car", "sports car", "automobile"), ("汽车", "跑车", "小轿车")),
    "bus": _subject("vehicle", ("bus", "coach", "minibus"), ("公交车", "巴士", "大客车")),
    "train": _subject("vehicle", ("train", "locomotive", "express"), ("火车", "列车", "高铁")),
    "bird": _subject("animal", ("bird", "sparrow", "flying bird"), ("小鸟", "飞鸟", "鸟儿")),
    "fish": _subject("animal", ("fish", "goldfish", "little fish"), ("小鱼", "金鱼", "鱼儿")),
    "turtle": _subject("animal", ("turtle", "tortoise", "old turtle"), ("海龟", "乌龟", "老龟")),
    "jellyfish": _subject("animal", ("jellyfish", "sea jelly"), ("水母", "透明水母")),
    "dog": _subject("animal", ("dog", "puppy", "good boy"), ("小狗", "狗狗", "汪星人")),
    "cat": _subject("animal", ("cat", "kitten", "kitty"), ("小猫", "猫咪", "喵星人")),
    "rabbit": _subject("animal", ("rabbit", "bunny", "hare"), ("兔子", "小白兔", "萌兔")),
    "deer": _subject("animal", ("deer", "stag", "fawn"), ("小鹿", "梅花鹿", "鹿群")),
    "camel": _subject("animal", ("camel", "dromedary", "caravan"), ("骆驼", "驼队", "双峰驼")),
    "butterfly": _subject("animal", ("butterfly", "moth", "wings"), ("蝴蝶", "彩蝶", "飞蛾")),
    "balloon": _subject("flight", ("hot air balloon", "balloon"), ("热气球", "气球")),
    "drone": _subject("flight", ("drone", "quadcopter"), ("无人机", "航拍机")),
    "kite": _subject("flight", ("kite", "paper kite"), ("风筝", "纸鸢")),
    "rocket": _subject(
        "spacecraft", ("rocket", "spaceship", "shuttle"), ("火箭", "飞船", "航天飞机")
    ),
    "satellite": _subject("spacecraft", ("satellite", "probe", "orbiter"), ("卫星", "探测器")),
    "ufo": _subject("spacecraft", ("UFO", "flying saucer", "alien"), ("飞碟", "外星人")),
    "planet": _subject("spacecraft", ("planet", "saturn", "ringed world"), ("行星", "土星")),
    "player": _subject("person", ("player", "runner", "athlete"), ("运动员", "球员", "跑者")),
    "singer": _subject("person", ("singer", "vocalist", "star"), ("歌手", "主唱", "歌星")),
    "ball": _subject("thing", ("ball", "soccer ball", "penalty kick"), ("足球", "皮球", "点球")),
    "guitar": _subject("thing", ("guitar", "electric guitar", "solo"), ("吉他", "电吉他")),
    "tomato": _subject("thing", ("tomato", "vegetables", "salad"), ("西红柿", "番茄", "蔬菜")),
    "pot": _subject("thing", ("pot", "stew", "soup"), ("汤锅", "火锅", "炖菜")),
}

# Tags for what titles rarely say.
MOOD_TAGS = {
    "day": {"en": ("sunny", "daytime"), "zh": ("晴天", "白天")},
    "sunset": {"en": ("sunset", "golden hour"), "zh": ("日落", "黄昏")},
    "night": {"en": ("night", "dark"), "zh": ("夜晚", "夜景")},
    "mist": {"en": ("fog", "mist"), "zh": ("大雾", "雾天")},
}
PATTERN_TAGS = {
    "straight": {"en": ("passing by",), "zh": ("路过",)},
    "circle": {"en": ("circling", "spinning"), "zh": ("转圈", "盘旋")},
    "bounce": {"en": ("jumping", "bouncing"), "zh": ("跳跃", "蹦跳")},
    "zigzag": {"en": ("zigzag", "wild"), "zh": ("曲折", "乱窜")},
}
SPEED_TAGS = {
    "slow": {"en": ("slow", "calm"), "zh": ("慢节奏", "悠闲")},
    "fast": {"en": ("fast", "speed"), "zh": ("快节奏", "速度")},
}
NOISE_TAGS = {
    "en": ("viral", "4k", "funny", "vlog", "trending", "relaxing", "must see", "daily"),
    "zh": ("热门", "搞笑", "记录", "推荐", "放松", "原创", "生活", "高清"),
}

# Titles, by how much they tell. {s} is a subject, {p} a place, {n} a small number.
TITLES = {
    "both": {
        "en": ("a {s} {p}", "{s} {p}", "the {s} we met {p}", "{p}: a {s}", "{s} seen {p}"),
        "zh": ("{p}的{s}", "{p}偶遇{s}", "在{p}看{s}", "{s}，{p}", "{p}拍到{s}了"),
    },
    "subject": {
        "en": ("watch this {s}", "{s} caught on camera", "my favourite {s}", "{s} part {n}"),
        "zh": ("快看{s}", "{s}来了", "拍到了{s}", "最喜欢的{s}", "{s} 第{n}集"),
    },
    "place": {
        "en": ("an afternoon {p}", "what a day {p}", "{p}, part {n}", "greetings from {p}"),
        "zh": ("{p}的一天", "今天去了{p}", "{p}风景", "{p} 第{n}集"),
    },
    "nothing": {
        "en": (
            "you have to see this",
            "my video {n}",
            "vlog no. {n}",
            "so beautiful",
            "wait for it",
        ),
        "zh": ("随手拍{n}", "记录生活", "太美了吧", "一定要看到最后", "日常vlog {n}"),
    },
}
