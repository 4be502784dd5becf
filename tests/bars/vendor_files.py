"""Files as vendors write them, odd ones and broken ones, and what is to be read from each."""

import gzip
import math
from dataclasses import dataclass, field
from datetime import date

import numpy as np
import pandas as pd

NO_ADJUSTED = ("no_adjusted_close",)
D4, D5, D6 = "2021-01-04", "2021-01-05", "2021-01-06"


@dataclass
class Case:
    """Files, and what they hold: for each symbol its closes by date, or words of the refusal."""

    name: str
    files: dict[str, object]
    closes: dict[str, dict[str, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = NO_ADJUSTED
    adjusted: dict[str, dict[str, float]] | None = None
    volume: list[float] | None = None
    refused: tuple[str, ...] = ()
    symbols: tuple[str, ...] | None = None
    calendar: str = "XNYS"
    folder: bool = False


def one(name, text, *args, file="bars.csv", **more):
    return Case(name, {file: text}, *args, **more)


def alone(name, text, *args, file="AAA.csv", **more):
    return Case(name, {file: text}, *args, folder=True, **more)


def refuses(name, text, *words, file="bars.csv", **more):
    return Case(name, {file: text}, refused=words, **more)


TWO = {"AAA": {D4: 10.5, D5: 11.0}, "BBB": {D4: 20.0, D5: 21.25}}
ONE = {"AAA": {D4: 10.5, D5: 11.0}}
TALL = pd.DataFrame(
    {
        "date": pd.to_datetime([D4, D4, D5, D5]),
        "symbol": ["AAA", "BBB", "AAA", "BBB"],
        "close": [10.5, 20.0, 11.0, 21.25],
    }
)
WIDE = TALL.pivot(index="date", columns="symbol", values="close")
LEVELS = pd.concat({"Adj Close": WIDE / 2, "Close": WIDE, "Volume": WIDE * 100}, axis=1, names=["Price", "Ticker"])
LEVELS.index.name = "Date"
HALF = {symbol: {day: price / 2 for day, price in days.items()} for symbol, days in TWO.items()}
ONE_LEVELS = LEVELS.xs("AAA", axis=1, level=1, drop_level=False)
UNNAMED = LEVELS.rename_axis(columns=[None, None])


def dated(*dates):
    """A long file of one symbol with these dates as they are written."""
    return "date,symbol,close\n" + "".join(f'"{day}",AAA,{10.5 + k / 2}\n' for k, day in enumerate(dates))


def priced(*closes, separator=";"):
    return f"date{separator}symbol{separator}close\n" + "".join(
        f"2021-01-0{4 + k}{separator}AAA{separator}{close}\n" for k, close in enumerate(closes)
    )


def epochs(scale, *stamps):
    return dated(*(int(pd.Timestamp(stamp).timestamp()) * scale for stamp in stamps))


def centuries(day):
    """A file with such a date in each form in which files store dates."""
    yield "text", dated(D4, day)
    frame = pd.DataFrame({"date": [D4, day], "symbol": "AAA", "close": [1.0, 2.0]})
    yield "date32", frame.assign(date=[date.fromisoformat(D4), date.fromisoformat(day)])
    for unit in ("s", "ms", "us"):
        stamps = pd.Series(np.array([D4, day], dtype=f"datetime64[{unit}]"))
        yield unit, frame.assign(date=stamps)
        yield f"{unit} with a zone", frame.assign(date=stamps.dt.tz_localize("UTC"))


YAHOO = [
    one("yfinance download, field above ticker", LEVELS.to_csv(), TWO, notes=(), adjusted=HALF),
    one("yfinance download, ticker above field", LEVELS.swaplevel(axis=1).to_csv(), TWO, notes=(), adjusted=HALF),
    one("yfinance download of one ticker", ONE_LEVELS.to_csv(), ONE, notes=()),
    one("yfinance without names of levels", UNNAMED.to_csv(), TWO, notes=(), adjusted=HALF),
    one("yfinance with its index as a column", LEVELS.reset_index().to_csv(index=False), TWO, notes=(), adjusted=HALF),
    one("yfinance with a counted index", LEVELS.reset_index().to_csv(), TWO, notes=(), adjusted=HALF),
    one(
        "older yfinance with Unnamed cells",
        "Unnamed: 0_level_0,Adj Close,Adj Close.1,Close,Close.1\nUnnamed: 0_level_1,AAA,BBB,AAA,BBB\n"
        f"Date,Unnamed: 1_level_2,,,\n{D4},5.25,10,10.5,20\n{D5},5.5,10.625,11,21.25\n",
        TWO,
        notes=(),
        adjusted=HALF,
    ),
    one("pandas-datareader", LEVELS.rename_axis(columns=["Attributes", "Symbols"]).to_csv(), TWO, notes=()),
    one(
        "digits as tickers under fields",
        f"Price,Close,Close\nTicker,000001,600000\nDate,,\n{D4},1,2\n",
        {"000001": {D4: 1.0}, "600000": {D4: 2.0}},
    ),
    one("two levels in Parquet", LEVELS, TWO, notes=(), adjusted=HALF, file="bars.parquet"),
    one(
        "two levels in Parquet as text",
        LEVELS.set_axis([str(c) for c in LEVELS.columns], axis=1),
        TWO,
        notes=(),
        adjusted=HALF,
        file="bars.parquet",
    ),
    one(
        "a symbol without bars among two levels is told",
        f"Price,Close,Close\nTicker,AAA,XXX\nDate,,\n{D4},10.5,\n{D5},11,\n",
        ONE,
        notes=("empty_column", *NO_ADJUSTED),
    ),
    alone(
        "yfinance history in winter and summer",
        "Date,Open,High,Low,Close,Volume,Dividends,Stock Splits,Capital Gains\n"
        "2021-01-04 00:00:00-05:00,1,1,1,10.5,100,0.0,0.0,0.0\n2021-07-06 00:00:00-04:00,1,1,1,11,100,0.2,2.0,0.0\n",
        {"AAA": {D4: 10.5, "2021-07-06": 11.0}},
    ),
    alone(
        "a dividend on a holiday has no price",
        f"Date,Open,High,Low,Close,Adj Close,Volume\n{D4},1,1,1,10.5,10,100\n2021-01-18,,,,,,\n{D5},1,1,1,11,11,100\n",
        ONE,
        notes=("empty_row",),
        adjusted={"AAA": {D4: 10.0, D5: 11.0}},
    ),
    alone(
        "Yahoo's table on the web",
        'Date,Open,High,Low,Close*,Adj Close**,Volume\n"Jan 5, 2021",1,1,1,11.00,5.5,"1,234"\n'
        '"Jan 4, 2021",1,1,1,10.50,5.25,-\n',
        ONE,
        notes=(),
        adjusted={"AAA": {D4: 5.25, D5: 5.5}},
        volume=[math.nan, 1234.0],
    ),
]

VENDORS = [
    alone(
        "Nasdaq",
        'Date,Close/Last,Volume,Open,High,Low\n01/13/2021,$1234.50,"1,000",$1,$1,$1\n01/04/2021,"$1,050.5",900,$1,$1,$1\n',
        {"AAA": {D4: 1050.5, "2021-01-13": 1234.5}},
        volume=[900.0, 1000.0],
    ),
    alone(
        "Alpha Vantage, newest first",
        "timestamp,open,high,low,close,adjusted_close,volume,dividend_amount,split_coefficient\n"
        f"{D6},1,1,1,12,6,3,0,1\n{D5},1,1,1,11,5.5,2,0,1\n{D4},1,1,1,10.5,5.25,1,0,1\n",
        {"AAA": {D4: 10.5, D5: 11.0, D6: 12.0}},
        notes=(),
        adjusted={"AAA": {D4: 5.25, D5: 5.5, D6: 6.0}},
    ),
    alone("Alpha Vantage, numbered names", f"date,1. open,4. close,5. volume\n{D4},1,10.5,1\n{D5},1,11,1\n", ONE),
    alone(
        "investing.com",
        '"Date","Price","Open","High","Low","Vol.","Change %"\n'
        '"Jan 05, 2021","1,011.00","1","1","1","12.34M","0.52%"\n"Jan 04, 2021","1,010.50","1","1","1","350K","-0.1%"\n',
        {"AAA": {D4: 1010.5, D5: 1011.0}},
        volume=[350000.0, 12340000.0],
    ),
    one(
        "Stooq",
        "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>\n"
        "AAA.US,D,20210104,000000,1,1,1,10.5,100,0\nAAA.US,D,20210105,000000,1,1,1,11,100,0\n",
        {"AAA.US": ONE["AAA"]},
        file="aaa.us.txt",
    ),
    refuses(
        "Stooq's hours",
        "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>\nAAA.US,60,20210104,100000,1,1,1,1,1,0\n",
        "<PER> is '60', not D",
        "daily bars",
    ),
    one(
        "FinRL: day is a weekday",
        f",date,open,high,low,close,volume,tic,day\n0,{D4},1,1,1,10.5,1,AAA,0\n1,{D4},1,1,1,20,1,BBB,0\n"
        f"2,{D5},1,1,1,11,1,AAA,1\n3,{D5},1,1,1,21.25,1,BBB,1\n",
        TWO,
    ),
    alone(
        "Tiingo",
        "date,close,high,low,open,volume,adjClose,adjHigh,adjLow,adjOpen,adjVolume,divCash,splitFactor\n"
        "2021-01-04T00:00:00.000Z,10.5,1,1,1,7,5.25,1,1,1,14,0.0,1.0\n2021-01-05T00:00:00.000Z,11,1,1,1,8,5.5,1,1,1,16,0,1\n",
        ONE,
        notes=(),
        adjusted={"AAA": {D4: 5.25, D5: 5.5}},
        volume=[7.0, 8.0],
    ),
    one(
        "Tushare, newest first",
        "ts_code,trade_date,open,high,low,close,pre_close,change,pct_chg,vol,amount\n"
        "000001.SZ,20210105,1,1,1,11,10.5,0.5,4.8,9,9\n000001.SZ,20210104,1,1,1,10.5,10,0.5,5,8,8\n",
        {"000001.SZ": ONE["AAA"]},
        volume=[8.0, 9.0],
    ),
    one("all_stocks_5yr", f"date,open,high,low,close,volume,Name\n{D4},1,1,1,10.5,1,AAA\n{D5},1,1,1,11,1,AAA\n", ONE),
    one(
        "Polygon flat files",
        "ticker,volume,open,close,high,low,window_start,transactions\n"
        "AAA,1,1,10.5,1,1,1609736400000000000,9\nAAA,1,1,11,1,1,1625457600000000000,9\n",
        {"AAA": {D4: 10.5, "2021-07-05": 11.0}},
    ),
    alone(
        "Binance klines",
        "open_time,open,high,low,close,volume,close_time,quote_volume,count\n"
        "1609718400000,1,1,1,10.5,1,1609804799999,1,1\n1609804800000,1,1,1,11,1,1609891199999,1,1\n",
        ONE,
        calendar="24/7",
    ),
    one("FRED", "observation_date,SP500\n2021-01-01,\n2021-01-04,10.5\n2021-01-05,11\n", {"SP500": ONE["AAA"]}),
    alone("FRED's older form", "DATE,VALUE\n2021-01-01,.\n2021-01-04,10.5\n2021-01-05,11\n", ONE,
          notes=("empty_row", *NO_ADJUSTED)),
    one("Sharadar", f"ticker,date,open,close,volume,closeadj,closeunadj\nAAA,{D4},1,10.5,1,5.25,42\n",
        {"AAA": {D4: 10.5}}, notes=(), adjusted={"AAA": {D4: 5.25}}),
    alone("MetaTrader", "<DATE>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>\n"
          "2021.01.04\t1\t1\t1\t10.5\t1\t1\t1\n2021.01.05\t1\t1\t1\t11\t1\t1\t1\n", ONE),
    alone("Google Sheets", "Date,Close\n1/4/2021 16:00:00,10.5\n1/13/2021 16:00:00,11\n",
          {"AAA": {D4: 10.5, "2021-01-13": 11.0}}),
]  # fmt: skip

SHAPES = [
    one("closes only", TALL.to_csv(index=False), TWO),
    one("wide", WIDE.to_csv(), TWO),
    one("wide, dates without a heading", WIDE.rename_axis(None).to_csv(), TWO),
    one("wide, dates under Unnamed", WIDE.rename_axis("Unnamed: 0").to_csv(), TWO),
    one("wide with an index that was counted", WIDE.reset_index().to_csv(), TWO),
    one("wide, separators at the ends", f"date,AAA,BBB,\n{D4},10.5,20,\n{D5},11,21.25,\n", TWO),
    one("wide, an empty cell is no bar", f"date,AAA,BBB\n{D4},10.5,\n{D5},11,21.25\n",
        {"AAA": TWO["AAA"], "BBB": {D5: 21.25}}),
    one("wide with symbols that are words", f"Date,DAY,LOW,SYM,TRUE,NA\n{D4},1.5,2.5,3.5,4.5,5.5\n",
        {"DAY": {D4: 1.5}, "LOW": {D4: 2.5}, "SYM": {D4: 3.5}, "TRUE": {D4: 4.5}, "NA": {D4: 5.5}}),
    one("wide, other columns than those asked for", f"date,AAA,note\n{D4},10.5,x\n{D5},11,y\n", ONE, symbols=("AAA",)),
    one("empty open, high and low", f"date,symbol,open,high,low,close\n{D4},AAA,,,,10.5\n{D5},AAA,,,,11\n", ONE),
    one("only an adjusted close", f"date,symbol,adjClose\n{D4},AAA,10.5\n{D5},AAA,11\n", ONE, notes=("no_close",),
        adjusted=ONE),
    *(
        one(f"the adjusted close as {name}", f"DATE,Symbol,close,{name}\n{D4},AAA,10.5,5\n", {"AAA": {D4: 10.5}},
            notes=(), adjusted={"AAA": {D4: 5.0}})
        for name in ("adjClose", "Adj Close", "Adj. Close", "adjusted_close", "adjusted close", "close_adj", "ADJ_CLOSE")
    ),
    *(
        one(f"the symbol as {name}", f"{name},trading_date,last\nAAA,{D4},10.5\nAAA,{D5},11\n", ONE)
        for name in ("sym", "code", "stock_code", "instrument", "asset", "isin", "sid", "Ticker")
    ),
    one("a missing close beside other prices stays", f"date,symbol,open,close,adj_close\n{D4},AAA,1,,\n{D5},AAA,1,11,11\n",
        {"AAA": {D4: math.nan, D5: 11.0}}, notes=()),
    one("a footer and lines of separators", f"date,symbol,close\n{D4},AAA,10.5\n{D5},AAA,11\n,,\nSource: a vendor\n\n",
        ONE, notes=("empty_row", *NO_ADJUSTED)),
    one("blank lines at the end", TALL.to_csv(index=False) + "\n\n", TWO),
    one("shuffled dates are sorted", f"date,symbol,close\n{D4},AAA,10.5\n{D6},AAA,12\n{D5},AAA,11\n",
        {"AAA": {D4: 10.5, D5: 11.0, D6: 12.0}}, notes=("out_of_order", *NO_ADJUSTED)),
    one("one stamp of a running bar is left to the checks", f"date,symbol,close\n{D4} 00:00:00,AAA,10.5\n"
        f"{D5} 00:00:00,AAA,11\n{D5} 15:31:02,AAA,11\n", ONE),
    one("tuples as headings", f"Date,\"('Close', 'AAA')\",\"('Close', 'BBB')\"\n{D4},10.5,20\n{D5},11,21.25\n", TWO),
]  # fmt: skip

LIKE_FIELDS = [
    *(
        one(f"a table of {name} without a heading over the dates", f",{name},SPY\n{D4},65.5,370\n{D5},66.5,371\n",
            {name: {D4: 65.5, D5: 66.5}, "SPY": {D4: 370.0, D5: 371.0}})
        for name in ("DAY", "INDEX", "TIME")
    ),
    one("DAY in Parquet", pd.DataFrame({"DAY": [65.5, 66.5], "SPY": [370.0, 371.0]}, index=pd.to_datetime([D4, D5])),
        {"DAY": {D4: 65.5, D5: 66.5}, "SPY": {D4: 370.0, D5: 371.0}}, file="bars.parquet"),
    one("a count beside the day", f",day,symbol,close\n0,{D4},AAA,10.5\n1,{D5},AAA,11\n", ONE),
    one("a day of the week beside the stamp", f"day,time,symbol,close\n0,{D4},AAA,10.5\n1,{D5},AAA,11\n", ONE),
    *(
        one(f"{name} among symbols in a {kind}", f"Date,{name},SPY,QQQ\n{D4},65.5,370,1\n{D5},66.5,371,2\n",
            {name: {D4: 65.5, D5: 66.5}, "SPY": {D4: 370.0, D5: 371.0}, "QQQ": {D4: 1.0, D5: 2.0}}, folder=kind == "folder")
        for name in ("LAST", "PRICE", "VALUE", "CLOSE", "LTP")
        for kind in ("file", "folder")
        if (name, kind) != ("CLOSE", "folder")
    ),
    one("names of fields and of dates as symbols", f"Date,TIME,INDEX,LAST,PRICE\n{D4},1,2,3,4\n",
        {"TIME": {D4: 1.0}, "INDEX": {D4: 2.0}, "LAST": {D4: 3.0}, "PRICE": {D4: 4.0}}),
    alone("a price beside others is one asset", f"date,open,high,low,price\n{D4},1,1,1,10.5\n{D5},1,1,1,11\n", ONE),
    *(
        alone(f"{names} is one asset", f"DATE,{names}\n{D4},10.5,7\n{D5},11,7\n", ONE)
        for names in ("CLOSE,RSI", "CLOSE,VALUE", "LAST,VALUE", "PRICE,TURNOVER", "VALUE,CHG_PCT", "LTP,PREV. CLOSE",
                      "close_price,prev_close", "Close Price,Last Price", "PRICE,MARKET_CAP", "last,other")
    ),
    one("a value beside an adjusted close is a turnover", f"date,symbol,adj_close,volume,value\n{D4},AAA,10.5,100,1050\n"
        f"{D5},AAA,11,50,550\n", ONE, notes=("no_close",), adjusted=ONE),
    one("a value beside a close is a turnover", f"date,symbol,value,close\n{D4},AAA,1050,10.5\n{D5},AAA,550,11\n", ONE),
    one("a value whose column says that it is a close", f"date,symbol,type,price\n{D4},AAA,close,10.5\n{D5},AAA,Close,11\n",
        ONE),
    alone("CoinGecko", "snapped_at,price,market_cap,total_volume\n2021-01-04 00:00:00 UTC,10.5,1,0\n"
        "2021-01-05 00:00:00 UTC,11,1,0\n", ONE),
    alone("an exchange's page", '"Date ","series ","OPEN ","HIGH ","LOW ","PREV. CLOSE ","ltp ","close ","VOLUME ","VALUE "\n'
        f'{D4},EQ,1,"1,050.00",1,9,10,10.5,"12,34,567","1,23,45,67,890.50"\n{D5},EQ,1,1,1,9,10,11,1,1\n', ONE,
        volume=[1234567.0, 1.0]),
    one("an exchange's file", "Symbol,Series,Date,Prev Close,Open Price,High Price,Low Price,Last Price,Close Price\n"
        "AAA,EQ,04-Jan-2021,9,1,2,3,4,10.5\nAAA,EQ,05-Jan-2021,9,1,2,3,4,11\n", ONE),
]  # fmt: skip

MELTED = [
    refuses(f"melted: {name}", text, "one field per row", "pivot it", words)
    for name, words, text in (
        ("field", "'field' ('close' …)", f"date,symbol,field,value\n{D4},AAA,close,1\n{D4},AAA,volume,100\n"),
        ("volumes first", "'field' ('volume' …)", f"date,symbol,field,value\n{D4},AAA,volume,100\n{D5},AAA,volume,9\n"),
        ("variable", "'variable'", f"date,symbol,variable,value\n{D4},AAA,PX_LAST,1\n{D4},AAA,PX_MID,100\n"),
        ("other names", "'what'", f"date,symbol,what,price\n{D4},AAA,Adj Close,1\n{D4},AAA,Close,100\n"),
        ("fields as names", "'name' ('open' …)", f"date,name,value\n{D4},open,1\n{D4},close,1\n"),
        ("symbols", "name that column 'symbol'", f"date,variable,value\n{D4},AAA,1\n{D4},BBB,100\n"),
        ("val", "'field'", f"date,symbol,field,val\n{D4},AAA,close,1\n{D4},AAA,volume,100\n"),
    )
]

SYMBOLS = ("NA", "NAN", "null", "000001", "600000", "ON", "TRUE", "1INCH", "1E5", "INF", "BRK.B", "^GSPC")
ODD = {symbol: {D4: 1.5 + k} for k, symbol in enumerate(SYMBOLS)}
ODD_TALL = pd.DataFrame({"date": D4, "symbol": SYMBOLS, "close": [1.5 + k for k in range(len(SYMBOLS))]})
WRITTEN_SYMBOLS = [
    one("symbols are text in long files", ODD_TALL.to_csv(index=False), ODD),
    one("symbols are text in headings", ODD_TALL.pivot(index="date", columns="symbol", values="close").to_csv(), ODD),
    one("symbols are text in Parquet", ODD_TALL, ODD, file="bars.parquet"),
    Case(
        "symbols are text in names of files",
        {f"{symbol}.csv": f"date,close\n{D4},{1.5 + k}\n" for k, symbol in enumerate(SYMBOLS)},
        ODD,
        folder=True,
    ),
    one("spaces around symbols", f"date, symbol ,close\n{D4}, AAA ,10.5\n{D5},AAA, 11\n", ONE),
    one("whole numbers as symbols", TALL.assign(symbol=[600000, 1] * 2),
        {"600000": TWO["AAA"], "1": TWO["BBB"]}, file="bars.parquet"),
    one("whole numbers that were read as floats", TALL.assign(symbol=[600000.0, 1.0] * 2), {"600000": TWO["AAA"],
        "1": TWO["BBB"]}, file="bars.parquet"),
    one("whole numbers as headings", WIDE.set_axis([600000, 1], axis=1), {"600000": TWO["AAA"], "1": TWO["BBB"]},
        file="bars.pq"),
    one("symbols as a category", TALL.astype({"symbol": "category"}), TWO, file="bars.parquet"),
]  # fmt: skip

PARQUET = [
    one("index of date and symbol", TALL.set_index(["date", "symbol"]), TWO, file="bars.parquet"),
    one("index of symbol and date", TALL.set_index(["symbol", "date"]), TWO, file="BARS.PARQUET"),
    one("index of two without names", TALL.set_index(["symbol", "date"]).rename_axis([None, None]), TWO, file="a.parquet"),
    one("index of dates without a name", WIDE.rename_axis(index=None, columns=None), TWO, file="bars.parquet"),
    one("dates without a time", TALL.assign(date=TALL["date"].dt.date), TWO, file="bars.parquet"),
    one("dates as text", TALL.assign(date=TALL["date"].astype(str)), TWO, file="bars.parquet"),
    one("index of dates as text", WIDE.set_axis(WIDE.index.astype(str), axis=0).rename_axis(None), TWO, file="a.parquet"),
    one("stamps of the exchange's midnight in UTC",
        TALL.assign(date=TALL["date"].dt.tz_localize("America/New_York").dt.tz_convert("UTC")), TWO, file="a.parquet"),
    one("midnights in UTC are dates", TALL.assign(date=TALL["date"].dt.tz_localize("UTC")), TWO, file="bars.parquet"),
    one("Tokyo's midnight in UTC", TALL.assign(date=TALL["date"].dt.tz_localize("Asia/Tokyo").dt.tz_convert("UTC")), TWO,
        file="bars.parquet", calendar="XTKS"),
    one("closing times without a zone", TALL.assign(date=TALL["date"] + pd.Timedelta(hours=16)), TWO, file="a.parquet"),
    one("prices as text", TALL.assign(close=["10,5", "20", "11", "21,25"]), TWO, file="bars.parquet"),
]  # fmt: skip

CSV = [
    one("semicolons and decimal commas", priced("10,5", "11"), ONE),
    one("tabs and decimal commas", priced("10,5", "11", separator="\t"), ONE, file="bars.tsv"),
    one("pipes", priced("10.5", "11", separator="|"), ONE, file="bars.TXT"),
    one("thousands in commas", priced('"1,234.5"', '"1,234,567"', separator=","), {"AAA": {D4: 1234.5, D5: 1234567.0}}),
    one("thousands in points", priced("1.234,5", "1.234"), {"AAA": {D4: 1234.5, D5: 1234.0}}),
    one(
        "thousands in points elsewhere",
        f"date;symbol;close;volume\n{D4};AAA;10,5;1.234\n{D5};AAA;11;2.000\n",
        ONE,
        volume=[1234.0, 2000.0],
    ),
    one("thousands in spaces", priced("1 234,5", "1 234"), {"AAA": {D4: 1234.5, D5: 1234.0}}),
    *(
        one(f"thousands in U+{ord(space):04X}", priced(f"1{space}234,5", f"12{space}345{space}678,25{space}€"),
            {"AAA": {D4: 1234.5, D5: 12345678.25}})
        for space in "\u0020\u00a0\u202f\u2009"
    ),
    one("typographic apostrophes", priced("1\u2019234.5", "1\u2019234.25"), {"AAA": {D4: 1234.5, D5: 1234.25}}),
    one("volumes with a no-break space", f"date,symbol,close,volume\n{D4},AAA,10.5,1.5\u00a0M\n{D5},AAA,11,2M\n", ONE,
        volume=[1.5e6, 2e6]),
    *(one(f"currency {sign}", priced(f"{sign}10.5", f"11 {sign}"), ONE) for sign in "$€£¥₹"),
    one("quoted commas throughout are thousands", priced('"2,345"', '"2,350"', separator=","),
        {"AAA": {D4: 2345.0, D5: 2350.0}}),
    one("three decimals beside semicolons, one of them below 1", priced("12.345", "0.250"), {"AAA": {D4: 12.345, D5: 0.25}}),
    one("points alone beside semicolons", priced("12.5", "1.234"), {"AAA": {D4: 12.5, D5: 1.234}}),
    one("the remedy for three decimals", priced("12.3450", "1.234"), {"AAA": {D4: 12.345, D5: 1.234}}),
    one("exponents behind decimal commas", priced("1,5E+3", "1,234"), {"AAA": {D4: 1500.0, D5: 1.234}}),
    one("quoted decimal commas", priced('"10,5"', '"1,234"', separator=","), {"AAA": {D4: 10.5, D5: 1.234}}),
    one("three decimals beside commas", priced("12.345", "13.450", separator=","), {"AAA": {D4: 12.345, D5: 13.45}}),
    one("the separator in the first line", f"sep=;\ndate;symbol;close\n{D4};AAA;10,5\n{D5};AAA;11\n", ONE),
    one("a comma in the first line", f'"sep=,"\r\ndate,symbol,close\r\n{D4},AAA,10.5\r\n{D5},AAA,11\r\n', ONE),
    one("an address above the headings", "https://www.example.com\nunix,date,symbol,open,close,Volume AAA\n"
        f"1609804800000,{D5} 00:00:00,AAA,1,11,2\n1609718400000,{D4} 00:00:00,AAA,1,10.5,2\n", ONE),
    one("comments above the headings", f"# a vendor\n# of data\n\ndate,symbol,close\n{D4},AAA,10.5\n{D5},AAA,11\n", ONE),
    one("thousands in apostrophes", priced("1'234.5", "1'234"), {"AAA": {D4: 1234.5, D5: 1234.0}}),
    one("thousands in commas, Indian", priced('"1,23,456.5"', "7", separator=","), {"AAA": {D4: 123456.5, D5: 7.0}}),
    one("quoted thousands without points", priced('"1,234"', "7", separator=","), {"AAA": {D4: 1234.0, D5: 7.0}}),
    one("signs of currency", priced("$10.50", "€11"), ONE),
    one("euros behind", priced("10,50 €", "11,00 €"), ONE),
    one("marks for no value", f"date,symbol,open,high,low,close\n{D4},AAA,null,N/A,-,10.5\n{D5},AAA,NaN,,--,11\n", ONE),
    one("UTF-8 with a mark", TALL.to_csv(index=False).encode("utf-8-sig"), TWO),
    one("UTF-16", TALL.to_csv(index=False).encode("utf-16"), TWO),
    one("UTF-16 without a mark", TALL.to_csv(index=False).encode("utf-16-le"), TWO),
    one("latin-1", "date,symbol,close,name\n2021-01-04,AAA,10.5,Société\n2021-01-05,AAA,11,x\n".encode("latin-1"), ONE),
    one("compressed", gzip.compress(TALL.to_csv(index=False).encode()), TWO, file="bars.csv.GZ"),
    one("lines that end as on Windows", TALL.to_csv(index=False, lineterminator="\r\n"), TWO),
]  # fmt: skip

DATES = [
    one("20210104", dated("20210104", "20210105"), ONE),
    one("20210104 as a number", TALL.assign(date=[20210104, 20210104, 20210105, 20210105]), TWO, file="bars.parquet"),
    one("2021/01/04", dated("2021/01/04", "2021/1/5"), ONE),
    one("31.01.2021", dated("30.01.2021", "31.01.2021"), {"AAA": {"2021-01-30": 10.5, "2021-01-31": 11.0}}),
    one("04.01.2021", dated("04.01.2021", "05.01.2021"), ONE),
    one("16-Mar-2021", dated("16-Mar-2021", "17-Mar-2021"), {"AAA": {"2021-03-16": 10.5, "2021-03-17": 11.0}}),
    one("Mar 16, 2021", dated("March 16, 2021", "Mar 17, 2021"), {"AAA": {"2021-03-16": 10.5, "2021-03-17": 11.0}}),
    one("day/month/year", dated("04/01/2021", "13/01/2021"), {"AAA": {D4: 10.5, "2021-01-13": 11.0}}),
    one("month/day/year", dated("01/04/2021", "01/13/2021"), {"AAA": {D4: 10.5, "2021-01-13": 11.0}}),
    one("20210104T160000", dated("20210104T160000", "20210105T160000"), ONE),
    one("20210104 16:00", dated("20210104 16:00", "20210105 16:00"), ONE),
    one("2021-01-04T00:00:00Z", dated("2021-01-04T00:00:00Z", "2021-01-05T00:00:00Z"), ONE),
    one("digits with a zone", dated("20210105T010000Z", "20210106T010000Z"), ONE),
    one("Mon, Jan 04, 2021", dated("Mon, Jan 04, 2021", "Tuesday, Jan 05, 2021"), ONE),
    one("Mon 4 Jan 2021", dated("Mon 4 Jan 2021", "Tue, 5 Jan 2021"), ONE),
    one("half a clock", dated("1/4/2021 4:00:00 PM", "1/13/2021 4:00:00 PM"), {"AAA": {D4: 10.5, "2021-01-13": 11.0}}),
    one("seconds", epochs(1, "2021-01-04 14:30Z", "2021-01-05 21:00Z"), ONE),
    one("milliseconds", epochs(10**3, "2021-01-04 21:00Z", "2021-01-06 01:00Z"), ONE),
    one("microseconds", epochs(10**6, "2021-01-04 05:00Z", "2021-01-05 05:00Z"), ONE),
    one("nanoseconds", epochs(10**9, "2021-01-04 00:00Z", "2021-01-05 00:00Z"), ONE),
    one("seconds before 1970", dated(-252322200, 1609772400), {"AAA": {"1962-01-02": 10.5, D4: 11.0}}),
    one("evenings in New York are the next day in UTC", dated("2021-01-05T01:00:00Z", "2021-01-06T01:00:00+00:00"), ONE),
    one("the date as written, without a calendar", dated("2021-01-04T20:00:00-05:00", "2021-01-05T20:00:00-05:00"), ONE,
        calendar="bars"),
    one("the exchange's date", dated("2021-01-03T20:00:00-05:00", "2021-01-04T20:00:00-05:00"), ONE, calendar="XTKS"),
    one("UTC around the clock", dated("2021-01-03T20:00:00-05:00", "2021-01-04T20:00:00-05:00"), ONE, calendar="24/7"),
]  # fmt: skip

REFUSED = [
    refuses("days or months", dated("04/01/2021", "05/01/2021"), "line 2: '04/01/2021' may be day/month", "2020-03-16"),
    refuses("days and months", dated("13/01/2021", "01/14/2021"), "line 3: '01/14/2021' has day and month", "2020-03-16"),
    refuses("Excel's mix of dates", dated("2021-01-04", "13/01/2021"), "line 3: '13/01/2021' is written otherwise"),
    refuses("serial numbers", dated("43831", "43832"), "line 2: '43831' looks like a serial number of Excel"),
    refuses("a weekday is no date", "day,symbol,close\n0,AAA,1\n1,AAA,2\n", "line 2: '0' is no date"),
    *(
        refuses(f"{day} in {kind}", content, f"2: '{day}' is no date of a bar" if kind != "text" else f"3: '{day}' is no date "
                "of a bar", "1900 to 2200", "remove the row", file="bars.csv" if kind == "text" else "bars.parquet")
        for day in ("9999-12-31", "1500-01-01", "1850-01-02", "2201-01-01")
        for kind, content in centuries(day)
    ),
    *(
        one(f"{day} without a price", f"date,symbol,close\n{D4},AAA,10.5\n{D5},AAA,11\n{day},AAA,\n", ONE,
            notes=("empty_row", *NO_ADJUSTED))
        for day in ("9999-12-31", "1500-01-01")
    ),
    *(
        refuses(f"the {end} stamp that nanoseconds hold, in {zone}", TALL.assign(date=pd.DatetimeIndex(
            [stamp, stamp, D5, D5], tz="UTC").tz_convert(zone)), "row 1: ", "is no date of a bar", file="bars.parquet")
        for zone in ("America/New_York", "Asia/Tokyo")
        for end, stamp in (("first", pd.Timestamp.min.ceil("s")), ("last", pd.Timestamp.max.floor("s")))
    ),
    refuses("no such day", dated("2021-01-04", "2021-02-30"), "line 3: '2021-02-30' is no date"),
    refuses("a digit too many", dated("20210104", "202101051"), "line 3: '202101051' is no date"),
    *(
        refuses(f"years of two digits, {day}", dated(day), f"line 2: '{day}' has a year of two digits", "with four")
        for day in ("01/13/21", "04-Jan-21", "21-01-04", "04.01.21", "1/4/21 16:00")
    ),
    refuses("no such hour", dated(f"{D4} 25:00:00"), f"line 2: '{D4} 25:00:00' is no date"),
    refuses("lines below a title are counted", f"A title\n\ndate,symbol,close\n{D4},AAA,1\n{D5},AAA,x\n", "line 5: 'x'"),
    refuses("a long line below a title", "A title\ndate,symbol,close\n" + f"{D4},AAA,1\n" * 80 + "1,2,3,4\n", "line 83 has 4"),
    refuses("hourly bars", dated(*(f"{day} {hour}:30:00" for day in (D4, D5) for hour in (10, 11, 12))), "hourly bars",
            "AAA has 3 of 2021-01-04", "resample"),
    refuses("mornings and evenings", dated(*(f"{day} 9:30 {half}" for day in (D4, D5) for half in ("AM", "PM"))),
            "hourly bars"),
    refuses("three stamps of one day", dated(*(f"{D4} 0{hour}:00" for hour in (1, 2, 3)), D5), "AAA has 3 of 2021-01-04"),
    refuses("minutes beside the date", "date,time,symbol,close\n" + "".join(
        f"{day},09:3{m},AAA,1\n" for day in (D4, D5) for m in range(4)), "hourly bars", "AAA has 4 of 2021-01-04"),
    refuses("hours in wide tables", "date,AAA,BBB\n" + "".join(
        f"{day} {hour}:00:00-05:00,1,2\n" for day in (D4, D5) for hour in (10, 11)), "hourly bars", "AAA has 2"),
    refuses("close twice", f"date,symbol,close,Close\n{D4},AAA,1,1\n", "two columns for the same, 'close' and 'Close'"),
    refuses("adjusted close twice", f"date,symbol,adjClose,adjusted_close\n{D4},AAA,1,1\n", "'adjClose' and 'adjusted_close'"),
    refuses("date twice", f"date,Date,symbol,close\n{D4},{D4},AAA,1\n", "'date' and 'Date'"),
    refuses("a symbol twice", f"date,AAA,AAA\n{D4},1,1\n", "two columns 'AAA'"),
    refuses("returns in percent", f"date,AAA,BBB\n{D4},0.5%,1%\n", "line 2: '0.5%' in column AAA is a percentage"),
    refuses("returns", f"date,AAA,BBB\n{D4},0.01,-0.02\n{D5},0.03,0.01\n", "25% of the numbers under AAA, BBB", "returns"),
    refuses("nothing to recognise", "a;b;c\n1;2;3\n", "no date column among 'a', 'b', 'c'", "'date'", "'symbol'", "'close'"),
    refuses("no headings", f"{D4},AAA,10.5\n{D5},AAA,11\n", f"no date column among '{D4}', 'AAA', '10.5'"),
    refuses("no close", f"date,symbol,nav\n{D4},AAA,1\n", "no column 'close' among 'date', 'symbol', 'nav'"),
    refuses("no close beside open", f"date,open,high,low\n{D4},1,1,1\n", "no column 'close' among 'date', 'open'"),
    refuses("field and symbol in one heading", f"date,Close_AAA,Open_AAA\n{D4},1,1\n", "joins field and symbol", "'Close_AAA'"),
    refuses("words under symbols", f"date,AAA,note\n{D4},1,x\n", "line 2: 'x' in column note is no number"),
    refuses("both decimal marks", priced("10,5", "11.25"), "'10,5' with a decimal comma and '11.25' with a decimal point"),
    refuses("thousands or decimals", priced("1,234", "2,345"), "'1,234' may be 1234 or 1.234"),
    refuses("thousands or decimals in points", priced("1.234", "2.345"),
            "'1.234' may be 1234 or 1.234; write it as 1234 or 1.2340"),
    refuses("thousands or decimals with exponents", priced("1,234E+3", "1,345E+3"), "write it as 1234E+3 or 1.2340E+3"),
    refuses("what a server says instead of bars", '{\n  "Note": "Thank you for calling"\n}\n', "no date column among '{'"),
    refuses("volumes in thousands or decimals", f"date;symbol;close;volume\n{D4};AAA;12;1.234\n{D5};AAA;13;2.345\n",
            "'1.234' may be 1234 or 1.234"),
    refuses("thousands of two digits", priced("1 23", "4"), "line 2: '1 23' in column close is no number"),
    refuses("underscores", priced("1_000", "4"), "line 2: '1_000' in column close is no number"),
    refuses("millions in a price", priced("1.2M", "4"), "line 2: '1.2M' in column close is no number"),
    refuses("no symbol in a row", f"date,symbol,close\n{D4},AAA,1\n{D5},,1\n", "line 3: the symbol is missing"),
    refuses("a line after blank ones", f"date,symbol,close\n{D4},AAA,1\n\n\n{D5},AAA,x\n", "line 5: 'x'"),
    refuses("no symbol at all", f"date,close\n{D4},1\n", "no column 'symbol'", "folder"),
    refuses("no heading over prices", f"date,AAA,\n{D4},1,2\n", "line 2 has a cell in column 3, which has no heading"),
    refuses("no price at all", f"date,symbol,close\n{D4},AAA,\n", "no row with a price"),
    refuses("a calendar that there is not", dated("2021-01-04T20:00:00Z"), "no usable exchange calendar 'XXXX'",
            calendar="XXXX"),
    refuses("rows of Parquet", TALL.assign(date=["soon"] * 4), "row 1: 'soon' is no date", file="bars.parquet"),
    refuses("three levels", pd.concat({"x": LEVELS}, axis=1), "3 levels of columns", file="bars.parquet"),
    refuses("levels without a close", ONE_LEVELS[["Volume"]], "two levels of headings", "'Volume AAA'", file="bars.parquet"),
    refuses("dates and hours in digits", dated("202101041600", "202101051600"), "line 2: '202101041600' is no date"),
    refuses("damaged compression", b"\x1f\x8bno", "Cannot read bars from", file="bars.csv.gz"),
]  # fmt: skip

SPY = f"Date,Close\n{D4},10.5\n{D5},11\n"
FOLDERS = [
    Case(
        "other files lie beside those asked for",
        {"AAA.csv": SPY, "BBB.csv": "broken", "README.txt": "read me", "summary.csv": "name,rank\nx,1\n"},
        ONE,
        symbols=("AAA",),
        folder=True,
    ),
    Case("letter case of a name", {"aaa.csv": SPY}, ONE, symbols=("AAA",), folder=True),
    Case("the exact name before others", {"aaa.pq": "no Parquet", "AAA.csv": SPY}, ONE, symbols=("AAA",), folder=True),
    Case("other tables beside a long one", {"all.csv": TALL.to_csv(index=False), "note.txt": "x"}, TWO,
         symbols=("AAA", "BBB"), folder=True),
    Case("notes that are no tables", {"all.csv": TALL.to_csv(index=False), "README.txt": "x", "._all.csv": "x"}, TWO,
         folder=True),
    Case("names are not guessed", {"AAA_daily.csv": SPY}, refused=("no bars of AAA", "AAA_daily"), symbols=("AAA",),
         folder=True),
    Case("the file that fails is named", {"AAA.csv": SPY, "BBB.csv": "a,b\n1,2\n"}, refused=("BBB.csv", "no date column"),
         symbols=("AAA", "BBB"), folder=True),
    Case("all is wanted", {"AAA.csv": SPY, "sum.csv": "a,b\n1,2\n"}, refused=("sum.csv", "no date column"), folder=True),
    Case("years in files of their own", {"a.csv": TALL[:2].to_csv(index=False), "b.csv": TALL[2:].to_csv(index=False)}, TWO,
         folder=True),
    Case("volumes in one file only", {"AAA.csv": SPY, "BBB.csv": f"date,close,volume\n{D4},3,7\n"},
         {"AAA": TWO["AAA"], "BBB": {D4: 3.0}}, volume=[math.nan, 7.0, math.nan], folder=True),
    Case("adjusted closes in one file only", {"AAA.csv": SPY, "BBB.csv": f"date,open,close,adj close\n{D4},1,3,2\n"},
         {"AAA": TWO["AAA"], "BBB": {D4: 3.0}}, adjusted={"AAA": TWO["AAA"], "BBB": {D4: 2.0}}, folder=True),
]  # fmt: skip

CASES = YAHOO + VENDORS + SHAPES + LIKE_FIELDS + MELTED + WRITTEN_SYMBOLS + PARQUET + CSV + DATES + REFUSED + FOLDERS
